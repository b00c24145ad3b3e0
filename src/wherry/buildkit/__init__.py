"""BuildKit's protocol to the engine and back: gRPC over a connection that was taken over, or on the API's own socket.

``docker build`` with buildx, ``docker buildx bake`` and Compose speak it. Behind it stands the engine's own builder.
Nothing of this is imported before a client asks for it.
"""
