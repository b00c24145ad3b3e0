import socket

from wherry.linux.sockets import Batch


def test_many_are_received_and_each_is_answered_to_its_sender() -> None:
    batch = Batch(4, 100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(6)]
        assert batch.receive(server) == 0
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.connect(server.getsockname())
            client.send(b"x" * number + str(number).encode())
        for expected in (4, 2):
            assert batch.receive(server) == expected
            for index in range(expected):
                if batch.packet(index) == b"x1":
                    assert batch.sender(index) == clients[1].getsockname()
                else:
                    batch.answer(index, b"to " + batch.packet(index))
            batch.send(server)
        batch.send(server)  # nothing is sent twice
        for number, client in enumerate(clients):
            if number != 1:
                assert client.recv(100) == b"to " + b"x" * number + str(number).encode()
            client.setblocking(False)
            try:
                assert not client.recv(100)
            except BlockingIOError:
                client.close()


def test_an_answer_that_cannot_be_sent_does_not_keep_the_others_back() -> None:
    batch = Batch(4, 100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.sendto(b"one", server.getsockname())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"two", server.getsockname())
            assert batch.receive(server) == 2
            batch.answer(0, b"lost")
            batch.answer(1, b"found")
            batch.send(server)
            assert client.recv(100) == b"found"
            # The kernel tells of the one that was lost before it gives what comes next.
            client.sendto(b"three", server.getsockname())
            assert [batch.receive(server) for _ in range(2)].count(1) == 1
