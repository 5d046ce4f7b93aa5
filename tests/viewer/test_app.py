"""What the viewer's server answers, and above all what it doesn't."""

import gzip
import http.client
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from pipeline.errors import InputError, UsageError
from pipeline.media.label_store import open_labels
from pipeline.runs.edits import Change, load_edits
from pipeline.tasks.edit import edit
from pipeline.viewer.results import open_results

pytest.importorskip("uvicorn", reason="the extra `view` is a test dependency")

from pipeline.viewer.server import serving


class Client:
    """Requests as a page makes them."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.token = parts.netloc, parts.path.strip("/")

    def ask(
        self, path: str, method: str = "GET", body: object = None, token: str | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        sent = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        token = self.token if token is None else token
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.putrequest(method, f"/{token}{path}", skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        if content is not None:
            connection.putheader("content-length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def json(self, path: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
        status, content, headers = self.ask(path, method, body)
        return status, json.loads(gzip.decompress(content) if headers.get("content-encoding") == "gzip" else content)


@pytest.fixture
def client(run: Path) -> Iterator[Client]:
    with serving([run]) as server:
        yield Client(server.address)


def test_without_token_host_and_origin_of_its_own_nothing_is_answered(client: Client, run: Path) -> None:
    assert client.ask("/")[0] == 200
    host = client.host
    port = host.split(":")[1]
    assert client.ask("/", Host=f"localhost:{port}")[0] == 200
    assert client.ask("/state", Origin=f"http://{host}", Sec_Fetch_Site="same-origin")[0] == 200
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{host}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        for path, method in (("/", "GET"), ("/state", "GET"), ("/edits/0", "PUT")):
            status, content, _ = client.ask(path, method, b"{}" if method == "PUT" else None, **headers)
            assert (status, content) == (403, b""), headers
    for token in ("", "x", client.token[:-1], client.token + "x", "../" + client.token):
        assert client.ask("/state", token=token)[0] in (403, 404), token
    assert not (run / "edits.json").exists()


def test_answers_can_not_be_framed_kept_or_run_anything_else(client: Client) -> None:
    headers = client.ask("/")[2]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/server.py",
        "/static/app.py",
        "/labels/0/../../../run.json",
        "/labels/0/-1",
        "/labels/0/99999",
        "/labels/9/0",
        "/labels/0/0%2f..%2f0",
        "/clip/7",
        "/clip/..",
        "/clip/0/../../out/codebook.safetensors",
        "/edits/5",
        "/report.html",
        "/comparison/none",
    ],
)
def test_only_files_of_the_results_are_served(client: Client, path: str) -> None:
    status, content, _ = client.ask(path)
    assert status in (404, 405)
    assert b"import" not in content


def test_chunks_come_as_they_lie_on_the_disk_and_unpacked_for_others(client: Client, run: Path) -> None:
    store = open_labels(run / "even" / "labels.zarr")
    plain = (run / "even" / "labels.zarr" / "c" / "1" / "0" / "0").read_bytes()
    status, content, headers = client.ask("/labels/0/1", Accept_Encoding="gzip, br, zstd")
    assert (status, headers["content-encoding"], content) == (200, "zstd", plain)
    status, content, headers = client.ask("/labels/0/1", Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    found = np.frombuffer(gzip.decompress(content), dtype=np.uint8).reshape(16, *store.size_hw)
    assert np.array_equal(found, np.stack([store[index] for index in range(16, 32)]))


def test_a_link_in_a_chunks_place_is_not_followed(client: Client, run: Path) -> None:
    chunk = run / "even" / "labels.zarr" / "c" / "1" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(run / "codebook.safetensors")
    status, content, _ = client.ask("/labels/0/1")
    assert status == 404
    assert b"lies outside" in content


def test_the_clip_is_served_in_ranges(client: Client, run: Path) -> None:
    whole = (run.parent / "even.mp4").read_bytes()
    status, content, headers = client.ask("/clip/0", Range="bytes=10-19")
    assert (status, content, headers["content-type"]) == (206, whole[10:20], "video/mp4")


def test_edits_are_written_applied_and_undone(client: Client, run: Path) -> None:
    _, told = client.json("/state")
    edits = told["runs"][0]["edits"]
    state = {**edits["state"], "names": {"1": "head"}, "hidden": [2]}
    status, saved = client.json("/edits/0", "PUT", {"revision": edits["revision"], "state": state})
    assert (status, saved["state"]["names"], saved["undoable"]) == (200, {"1": "head"}, 1)
    assert load_edits(run / "edits.json").current.hidden == (2,)
    assert [part.name for part in edit(run).parts] == ["head", "part 3"]
    status, back = client.json("/edits/0/undo", "POST", {"revision": saved["revision"]})
    assert (status, back["state"]["hidden"]) == (200, [])


def test_of_two_viewers_the_second_is_told_and_loses_nothing(client: Client, run: Path) -> None:
    revision = client.json("/edits/0")[1]["revision"]
    edit(run, Change(names={1: "theirs"}))
    mine = {"names": {"1": "mine"}}
    status, told = client.json("/edits/0", "PUT", {"revision": revision, "state": mine})
    assert (status, told["state"]["names"]) == (409, {"1": "theirs"})
    assert "changed meanwhile" in told["error"]
    assert load_edits(run / "edits.json").current.names == {1: "theirs"}
    status, _ = client.json("/edits/0", "PUT", {"revision": told["revision"], "state": mine})
    assert status == 200
    assert [each.names[1] for each in load_edits(run / "edits.json").states] == ["theirs", "mine"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"revision": "x", "state": {"hidden": [99]}}',
        b'{"revision": "x", "state": {"names": {"1": ""}}}',
        b'{"revision": "x", "state": {"colors": {"1": "url(//evil)"}}}',
        b'{"revision": "x", "state": {}, "file": "/etc/passwd"}',
        b'{"revision": "x", "state": {"names": {"1": "' + b"x" * 2_000_000 + b'"}}}',
    ],
)
def test_what_is_no_state_of_these_parts_is_refused(client: Client, run: Path, body: bytes) -> None:
    status, content, _ = client.ask("/edits/0", "PUT", body)
    assert status == 422
    assert json.loads(content)["error"]
    assert not (run / "edits.json").exists()


def test_a_directory_that_can_not_be_written_is_shown_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    else:
        run.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with serving([run]) as server:
        told = Client(server.address).json("/state")[1]
    run.chmod(stat.S_IRWXU)
    assert told["runs"][0]["writable"] is False
    assert "'out' can't be written: look, but edits can't be saved." in told["warnings"]


def test_what_is_missing_is_said_and_the_rest_is_shown(run: Path, tmp_path: Path) -> None:
    (tmp_path / "even.mp4").unlink()
    (run / "codebook.safetensors").unlink()
    (run / ".run").mkdir()
    (run / ".run" / "manifest.json").write_text("{}")
    with serving([run]) as server:
        client = Client(server.address)
        told = client.json("/state")[1]
        assert client.ask("/clip/0")[0] == 404
        assert client.ask("/labels/0/0")[0] == 200
        assert client.ask("/proxy/0", "POST")[0] == 404
    even, uneven = told["runs"][0]["results"]
    assert "isn't there any more" in even["problem"]
    assert uneven["problem"] == ""
    assert [word in " ".join(told["warnings"]) for word in ("unfinished", "no codebook")] == [True, True]


def test_an_input_that_has_moved_is_shown_where_it_is_now(run: Path, tmp_path: Path) -> None:
    content = (tmp_path / "even.mp4").read_bytes()
    moved = (tmp_path / "even.mp4").rename(tmp_path / "moved.mp4")
    with serving([run / "even"]) as server:
        assert [warning for warning in server.warnings if "say with --source where it is now" in warning]
    with serving([run / "even"], source=moved) as server:
        client = Client(server.address)
        assert not server.warnings
        assert client.ask("/clip/0")[:2] == (200, content)
        assert client.json("/similarity/0", "POST", {"frame": 1, "x": 0.5, "y": 0.5})[0] == 200
    with pytest.raises(UsageError, match="--source is the input of one result"), serving([run], source=moved):
        pass


def test_a_strangers_record_names_no_other_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    record = json.loads((run / "even" / "run.json").read_text())
    for path in (tmp_path / "secret.txt", Path("/etc/passwd"), Path("/dev/zero"), run / "codebook.safetensors"):
        record["source"]["path"] = str(path)
        (run / "even" / "run.json").write_text(json.dumps(record))
        with serving([run / "even"]) as server:
            client = Client(server.address)
            assert client.ask("/clip/0")[0] == 404
            assert client.json("/state")[1]["runs"][0]["results"][0]["problem"]


def test_a_port_in_use_and_a_place_without_results_are_one_line(run: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} can't be used .*leave --port out"), serving([run], port):
            pass
    with pytest.raises(InputError, match="holds no result"):
        open_results([tmp_path])


def test_similarity_over_a_frame_and_a_whole_clip(client: Client) -> None:
    status, told = client.json("/similarity/0", "POST", {"frame": 3, "x": 0.1, "y": 0.5})
    assert status == 200, told
    import base64
    import time

    values = np.frombuffer(base64.b64decode(told["values"]), np.uint8).reshape(told["rows"], told["cols"])
    # The point's own patch is the one that is most like it.
    row, col = int(0.5 * told["rows"]), int(0.1 * told["cols"])
    assert values[row, col] == values.max() == 255
    job = client.json("/comparisons/0", "POST", {"frame": 3, "x": 0.1, "y": 0.5})[1]["job"]
    for _ in range(300):
        told = client.json(f"/comparison/{job}?frames=0,3,39")[1]
        if told["state"] != "running":
            break
        time.sleep(0.1)
    assert (told["state"], told["done"], [each["frame"] for each in told["answers"]]) == ("done", 40, [0, 3, 39])
    assert np.array_equal(np.frombuffer(base64.b64decode(told["answers"][1]["values"]), np.uint8), values.ravel())
    assert client.json("/similarity/0", "POST", {"frame": 40, "x": 0, "y": 0})[0] == 422
    assert client.json("/similarity/0", "POST", {"frame": 1, "x": 2, "y": 0})[0] == 422
    job = client.json("/comparisons/0", "POST", {"frame": 3, "x": 0.1, "y": 0.5})[1]["job"]
    client.ask(f"/comparison/{job}", "DELETE")
    for _ in range(100):
        state = client.json(f"/comparison/{job}")[1]["state"]
        if state != "running":
            break
        time.sleep(0.1)
    assert state == "cancelled"
    assert client.json("/similarity/1", "POST", {"frame": 1, "x": 0.5, "y": 0.5})[0] == 200


def test_an_interrupted_wait_ends_the_server_in_order(run: Path) -> None:
    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before, threads = signal.signal(signal.SIGALRM, interrupt), threading.enumerate()
    try:
        with suppress(KeyboardInterrupt), serving([run]) as server:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            server.wait(30)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert threading.enumerate() == threads
