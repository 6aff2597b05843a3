"""What the routes of DICOMweb share: what is held, where it is stored, the address that is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from adapters.dicom.holdings import Holdings
from adapters.dicom.web.frames import Makes
from adapters.dicom.web.settings import DicomwebSettings
from adapters.dicom.web.source import DicomwebSource

PREFIX = "/dicomweb"
Sources = Callable[[], Sequence[DicomwebSource]]


class Service:
    """What the routes share."""

    def __init__(
        self,
        holdings: Holdings,
        sources: Sources,
        settings: Callable[[], DicomwebSettings],
        pictures: Makes | None = None,
    ) -> None:
        self.holdings, self.sources, self.settings = holdings, sources, settings
        self.pictures = pictures
        self._lock = threading.Lock()
        self._retrieving = 0

    def base(self, request: Request) -> str:
        """The address of the service as it is told."""
        told = self.settings().url
        if told:
            return told
        name = request.path_params.get("source", "")
        root = f"{request.url.scheme}://{request.url.netloc}{PREFIX}"
        return f"{root}/{name}" if name else root

    def source(self, name: str) -> DicomwebSource | None:
        """The source of a name; of none the first."""
        return next((each for each in self.sources() if name in {"", each.name}), None)

    def begin(self) -> bool:
        """Whether one more retrieval may begin; then it must end."""
        with self._lock:
            if self._retrieving >= self.settings().retrievals_max:
                return False
            self._retrieving += 1
            return True

    def end(self) -> None:
        """A retrieval is over."""
        with self._lock:
            self._retrieving -= 1


class Answered(Exception):
    """The answer is decided before the route is reached; :func:`answered` gives it."""

    def __init__(self, answer: Response) -> None:
        super().__init__("answered")
        self.answer = answer


def answered(_request: Request, error: Exception) -> Response:
    """The application's handler of :class:`Answered`."""
    assert isinstance(error, Answered)
    return error.answer
