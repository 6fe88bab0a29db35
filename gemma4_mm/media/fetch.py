"""Download one media item over http(s), bounded while it streams. Imported only after the caller allowed network."""

import http.client
import urllib.error
import urllib.request
from typing import Final

from gemma4_mm.errors import Gemma4MMError, MediaError, plain_text
from gemma4_mm.limits import Limits
from gemma4_mm.media.bounds import check_bytes, read_bounded

TIMEOUT_S: Final = 20.0  # for the connection and for each read


def fetch(url: str, *, name: str, limits: Limits) -> bytes:
    """Return the body behind `url`; redirects are followed to http and https only.

    Proxies are taken from the environment, as urllib does.

    Args:
        url: begins with `http://` or `https://`.
        name: what errors call the item.
        limits: `max_bytes` ends the download.

    Raises:
        MediaError: no answer, an error status, or a broken connection.
        LimitError: the announced or received length is over the limit.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "gemma4-mm"})  # noqa: S310 - the scheme was checked
    try:
        with _opener().open(request, timeout=TIMEOUT_S) as response:
            announced = response.headers.get("Content-Length", "")
            if announced.isdecimal():
                check_bytes(int(announced), name=name, limits=limits)
            data = read_bounded(response.read, name=name, limits=limits)
    except Gemma4MMError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise MediaError(
                f"{name}: the server answered {error.code} {plain_text(error.reason)}; check the address"
            ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = plain_text(getattr(error, "reason", None) or error)
        raise MediaError(f"{name}: the download failed ({reason}); check the address and the connection") from error
    if announced.isdecimal() and len(data) < int(announced):  # http.client notices only in a read without a size
        raise MediaError(f"{name}: the download ended after {len(data)} of {announced} bytes; try again")
    return data


def _opener() -> urllib.request.OpenerDirector:
    """An opener without urllib's handlers for file:, ftp: and data:, so that no redirect reaches them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
