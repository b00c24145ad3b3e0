"""What can go wrong, as the user of the API sees it: a message and an HTTP status."""


class EngineError(Exception):
    """Base of every error that is answered with its own message. ``status`` is the HTTP status."""

    status = 500

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidParameter(EngineError):
    status = 400


class Forbidden(EngineError):
    status = 403


class NotFound(EngineError):
    status = 404


class Conflict(EngineError):
    status = 409


class NotModified(EngineError):
    """The thing already is as asked. HTTP says so without a body."""

    status = 304


class Unavailable(EngineError):
    status = 503


class NotSupported(EngineError):
    """Asked for something this engine does not do, or this machine cannot."""

    status = 501
