"""weights.sh against a server on 127.0.0.1 that breaks in every way a download can break.

The real weights are half a gigabyte and this suite is offline, so each test runs a copy of weights.sh
in which the digests and sizes of two models are those of small made-up files. The rest of the script is
the real one, and so are curl and the waiting; only `sleep` is a stub that notes how long it was asked to.
"""

import contextlib
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "weights.sh"
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(not (BASH and shutil.which("curl")), reason="weights.sh needs bash and curl")

REPOS = {"gpt2": "openai-community/gpt2", "distilgpt2": "distilbert/distilgpt2"}
REVISIONS = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "distilgpt2": "2290a62682d06624634c1f46a6ad5be0f47f38aa",
}
CONFIG = b'{"made": "up", "n_embd": 12}\n'
WEIGHTS = random.Random(0).randbytes(3_000_007)
PAUSE = 2_000_000  # bytes that a pausing server sends
TOKEN = "hf_aTokenThatNobodyHas"
PASSWORD = "sekret"
ENDLESS = 60_000_000  # bytes that an endless server sends at most, so that a failing test ends
# What no line may hold: control characters but for the newline, and invisible and bidirectional ones.
STEERS_A_TERMINAL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class Server(ThreadingHTTPServer):
    """Serves the made-up files, with the faults that a test asks for.

    The faults hit model.safetensors; `statuses` and `redirects` are per file name.
    """

    daemon_threads = False  # so that server_close joins them, and no socket outlives its test

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.log = []  # (file, Range, Authorization) of every request
        self.ranges = True  # False: answer 200 and the whole file to a range request
        self.says_size_in_416 = True  # some servers do not, and curl treats the two differently
        self.cuts = []  # close the connection after so many bytes, one entry per request (None: do not)
        self.cut_always = None
        self.flip = None  # offset of a byte to get wrong
        self.content_range = "bytes {start}-{last}/{total}"  # None: a 206 without one
        self.says_length = True
        self.announced = 0  # bytes announced that never come
        self.endless = ()  # names of files whose reply does not end
        self.sent = 0  # bytes of endless replies
        self.crawls = None  # "body" or "headers": send two bytes at a time, and wait
        self.squeeze = lambda body: body  # what a server makes of a body before sending it
        self.pages = {}  # name: (type, body) sent with 200 instead of the file
        self.pause_at = None  # send so many bytes, then wait for `go_on`
        self.pausing = threading.Event()
        self.go_on = threading.Event()
        self.statuses = {}
        self.redirects = {}
        self.revisions = set()

    def requests_for(self, name):
        return [request for request in self.log if request[0] == name]

    def ranges_asked(self):
        return [asked for _, asked, _ in self.requests_for("model.safetensors")]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        path = self.requestline.split()[1]  # self.path would hide a doubled slash
        repo, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        server.log.append((name, self.headers["Range"], self.headers["Authorization"]))
        server.revisions.add((repo, revision))
        if name in server.redirects:
            self.answer(302, {"Location": server.redirects[name] + self.path})
        elif name in server.statuses:
            self.answer(server.statuses[name], {}, b"an error page, not weights")
        elif name in server.pages:
            kind, body = server.pages[name]
            self.answer(200, {"Content-Type": kind}, body)
        else:
            self.send_file(name)

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the test may have killed curl
            self.wfile.write(body)

    def send_file(self, name):
        server = self.server
        weights = name == "model.safetensors"
        whole = bytearray(WEIGHTS if weights else CONFIG)
        if weights and server.flip is not None:
            whole[server.flip] ^= 1
        start = 0
        if server.ranges and self.headers["Range"]:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if start >= len(whole):
                headers = {"Content-Range": f"bytes */{len(whole)}"} if server.says_size_in_416 else {}
                self.answer(416, headers, b"nothing there")
                return
        body = server.squeeze(bytes(whole[start:]))
        if weights and server.crawls == "headers":
            self.crawl(b"HTTP/1.0 200 OK\r\nX-Slow: " + b"x" * 1000)
            return
        self.send_response(206 if start else 200)
        if start and server.content_range:
            self.send_header(
                "Content-Range", server.content_range.format(start=start, last=len(whole) - 1, total=len(whole))
            )
        if server.says_length and name not in server.endless:
            self.send_header("Content-Length", str(len(body) + (server.announced if weights else 0)))
        self.end_headers()
        cut = None
        if weights:
            cut = server.cuts.pop(0) if server.cuts else server.cut_always
        with contextlib.suppress(ConnectionError):
            if weights and server.crawls == "body":
                self.wfile.write(body[:100])
                self.crawl(body[100:])
                return
            pause_at = server.pause_at if weights else None
            if pause_at is not None:
                self.wfile.write(body[:pause_at])
                server.pausing.set()
                server.go_on.wait(30)
                body = body[pause_at:]
            self.wfile.write(body[:cut])  # short of Content-Length when cut; then the connection closes
            while name in server.endless and server.sent < ENDLESS:
                server.sent += self.wfile.write(bytes(100_000))

    def crawl(self, data):
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), 2):
                self.wfile.write(data[start : start + 2])
                if self.server.go_on.wait(0.2):
                    return

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(certificate=None):
    server = Server()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = server.url.replace("http:", "https:")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    with serving() as one:
        yield one


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


class Desk:
    """A copy of weights.sh with pins for the made-up files, a folder for models, and a clean environment."""

    def __init__(self, tmp_path, endpoint):
        self.tmp = tmp_path
        self.home = tmp_path / "the models"  # a blank in every path of every test
        self.folder = self.home / "gpt2"
        self.final = self.folder / "model.safetensors"
        self.partial = self.folder / "model.safetensors.partial"
        self.record = self.folder / "model.safetensors.sha256"
        self.lock = self.folder / ".lock"
        self.script = tmp_path / "weights.sh"
        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        self.slept = tmp_path / "slept"
        executable(
            self.bin / "sleep",
            f'#!/bin/sh\necho "$1" >>"{self.slept}"\nexec {shutil.which("sleep")} 0.05\n',
        )
        # Nothing is inherited but PATH: no proxy, no ~/.curlrc, no token of the person who runs this.
        self.env = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LC_ALL": "C",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "NANOGPT_NP_HOME": str(self.home),
            "HF_ENDPOINT": endpoint,
        }
        self.write_script()

    def write_script(self, weights_bytes=None, config_bytes=None, parameters=None, **constants):
        text = SCRIPT.read_text()
        pins = {
            "config.json": (CONFIG, config_bytes or len(CONFIG)),
            "model.safetensors": (WEIGHTS, weights_bytes or len(WEIGHTS)),
        }
        for model in REPOS:
            for name, (body, size) in pins.items():
                row = rf"(?m)^( +{model} +{re.escape(name)} +)[0-9a-f]{{64}} \S+$"
                pin = f"{hashlib.sha256(body).hexdigest()} {size}"
                text, count = re.subn(row, rf"\g<1>{pin}", text)
                assert count == 1, f"{model} {name} stands {count} times in weights.sh"
        if parameters:
            text = re.sub(r"(?m)^(  gpt2 +)\d+", rf"\g<1>{parameters}", text)
        for name, value in constants.items():
            text, count = re.subn(rf"(?m)^{name}=\d+", f"{name}={value}", text)
            assert count == 1, name
        executable(self.script, text)

    def environment(self, env):
        merged = {**self.env, **env}
        return {name: str(value) for name, value in merged.items() if value is not None}

    def plant_config(self):
        """Leave only the weights to be downloaded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_bytes(CONFIG)

    def plant_partial(self, data):
        self.plant_config()
        self.partial.write_bytes(data)

    def run(self, *args, command=None, umask=-1, **env):
        return subprocess.run(
            [*(command or [BASH]), str(self.script), *args],
            env=self.environment(env),
            cwd=self.tmp,
            umask=umask,
            capture_output=True,
            text=True,
            timeout=30,
        )

    @contextlib.contextmanager
    def started(self, *args, stderr=subprocess.PIPE, **env):
        process = subprocess.Popen(
            [BASH, str(self.script), *args],
            env=self.environment(env),
            cwd=self.tmp,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # its own process group, to be interrupted as Ctrl-C does it
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def is_halfway(self):
        # Not all of PAUSE: the last few kB may wait in curl's buffer for more.
        return size(self.partial) > PAUSE * 3 // 4

    def waits(self):
        return self.slept.read_text().split() if self.slept.exists() else []

    def assert_installed(self):
        assert self.names() == ["config.json", "model.safetensors", "model.safetensors.sha256"]
        assert (self.folder / "config.json").read_bytes() == CONFIG
        assert self.final.read_bytes() == WEIGHTS


@pytest.fixture
def desk(tmp_path, server):
    return Desk(tmp_path, server.url)


def assert_fine(result):
    assert result.returncode == 0, result.stderr


def assert_failed(result, *words):
    """Exit 1, and the last line on stderr is one plain sentence with `words` in it."""
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("weights.sh: "), result.stderr
    for word in words:
        assert word in last
    assert result.stdout == ""


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s for something that did not happen"
        time.sleep(0.01)


def size(path):
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def sigint_not_ignored():
    """A suite started in the background may have SIGINT ignored, and a shell could then not trap it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ---- It downloads ------------------------------------------------------------------------------


def test_a_fresh_run_downloads_the_pinned_revision_and_says_what_to_try(desk, server):
    result = desk.run()
    assert_fine(result)
    desk.assert_installed()
    assert [name for name, _, _ in server.log] == ["config.json", "model.safetensors"]
    assert server.revisions == {(REPOS["gpt2"], REVISIONS["gpt2"])}
    assert result.stdout == (
        f'gpt2 is in {desk.folder}\ntry: python -m nanogpt_np.generate --model gpt2 "The capital of France is"\n'
    )


def seconds(nanoseconds):
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def test_the_record_is_the_line_that_sha256sum_prints_and_the_identity_of_the_file(desk):
    assert_fine(desk.run())
    digest, status = hashlib.sha256(WEIGHTS).hexdigest(), desk.final.stat()
    assert desk.record.read_text().splitlines() == [
        f"{digest}  model.safetensors",
        f"# size={status.st_size} mtime={seconds(status.st_mtime_ns)} inode={status.st_ino} "
        f"ctime={seconds(status.st_ctime_ns)}",
    ]
    if shutil.which("sha256sum"):
        check = subprocess.run(["sha256sum", "-c", desk.record.name], cwd=desk.folder, capture_output=True, text=True)
        assert (check.returncode, check.stderr) == (0, "")


def test_without_nanoseconds_the_record_is_one_line_and_claims_nothing(desk):
    executable(desk.bin / "stat", "#!/bin/sh\necho '# size=3000007 mtime=1700000000 inode=5 ctime=1700000000'\n")
    assert_fine(desk.run())
    assert desk.record.read_text() == f"{hashlib.sha256(WEIGHTS).hexdigest()}  model.safetensors\n"
    assert "unchecked" in desk.run("--list").stdout
    again = desk.run()
    assert_fine(again)
    assert f"checking {desk.final}" in again.stderr


def test_several_models_are_downloaded_in_one_run(desk, server):
    assert_fine(desk.run("--", "gpt2", "distilgpt2"))
    desk.assert_installed()
    assert (desk.home / "distilgpt2" / "model.safetensors").read_bytes() == WEIGHTS
    assert server.revisions == {(REPOS[model], REVISIONS[model]) for model in REPOS}


def test_what_is_there_and_good_is_neither_asked_for_nor_hashed_again(desk, server):
    assert_fine(desk.run())
    server.log.clear()
    hashed = desk.tmp / "hashed"
    for tool in ("sha256sum", "shasum", "openssl"):
        if real := shutil.which(tool):
            # Count the bytes that go into the hash.
            executable(
                desk.bin / tool,
                f'#!/bin/sh\ntee /dev/stderr 2>>"{hashed}" | {real} "$@"\n',
            )
    result = desk.run()
    assert_fine(result)
    assert "already there" in result.stderr
    assert server.log == []
    assert size(hashed) == len(CONFIG)


def test_a_model_without_a_record_is_hashed_and_recorded_without_the_network(desk):
    assert_fine(desk.run())
    desk.record.unlink()
    result = desk.run(HF_ENDPOINT="http://127.0.0.1:1")
    assert_fine(result)
    assert "checking" in result.stderr
    desk.assert_installed()


def changed(data):
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


def overwritten(path):
    path.write_bytes(changed(WEIGHTS))


def overwritten_under_the_old_date(path):
    status = path.stat()
    path.write_bytes(changed(WEIGHTS))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced_under_the_old_date(path):
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(changed(WEIGHTS))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [overwritten, overwritten_under_the_old_date, replaced_under_the_old_date])
def test_a_changed_file_does_not_inherit_the_record(desk, change):
    assert_fine(desk.run())
    change(desk.final)
    os.utime(desk.record)  # the record's own date proves nothing
    assert_failed(desk.run(), "not the published file")
    assert desk.final.read_bytes() == changed(WEIGHTS)


DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize(
    "record",
    [
        f"{DIGEST}  model.safetensors\n",
        f"{'0' * 64}  model.safetensors\n{{identity}}\n",
        f"{DIGEST}  model.safetensors\n# size={len(WEIGHTS)}\n",
    ],
    ids=["no identity", "another digest", "half an identity"],
)
def test_a_record_that_does_not_fit_is_not_believed_but_written_again(desk, record):
    assert_fine(desk.run())
    good = desk.record.read_text()
    desk.record.write_text(record.format(identity=good.splitlines()[1]))
    result = desk.run(HF_ENDPOINT="http://127.0.0.1:1")
    assert_fine(result)
    assert "checking" in result.stderr
    assert desk.record.read_text() == good


def test_a_missing_config_is_fetched_without_fetching_the_weights_again(desk, server):
    assert_fine(desk.run())
    (desk.folder / "config.json").unlink()
    server.log.clear()
    assert_fine(desk.run())
    desk.assert_installed()
    assert [name for name, _, _ in server.log] == ["config.json"]


def test_files_whose_size_nobody_published_are_checked_by_digest_alone(desk, server):
    desk.write_script(weights_bytes="-", config_bytes="-")
    server.cuts = [100_000]
    assert_fine(desk.run())
    desk.assert_installed()
    assert "already there" in desk.run().stderr


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_get_the_modes_that_the_umask_asks_for(desk, umask, mode):
    assert_fine(desk.run(umask=umask))
    assert {path.stat().st_mode & 0o777 for path in desk.folder.iterdir()} == {mode}


def test_a_terminal_shows_a_progress_bar(desk):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as screen, desk.started(stderr=theirs) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux reports the closed end as an error
            while part := screen.read(1024):
                shown += part
        process.communicate(timeout=20)
    assert process.returncode == 0, shown
    assert b"\r100.0% of 3.0 MB\r\n" in shown, shown


def test_without_a_terminal_there_is_one_line_per_file(desk):
    lines = desk.run().stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"gpt2/config.json: downloading {len(CONFIG)} bytes",
        "gpt2/model.safetensors: downloading 3.0 MB",
    ]


# ---- It resumes --------------------------------------------------------------------------------


def test_a_cut_connection_is_resumed_where_it_broke(desk, server):
    server.cuts = [100_000]
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == [None, "bytes=100000-"]


def test_a_connection_that_always_breaks_still_gets_there_if_it_moves(desk, server):
    server.cut_always = 400_000  # 8 pieces, more than the 5 attempts that may bring nothing
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked()[1:] == [f"bytes={n * 400_000}-" for n in range(1, 8)]
    assert set(desk.waits()) == {"1"}


def test_a_connection_that_brings_nothing_is_given_up_after_five_attempts(desk, server):
    server.cuts = [100_000]
    server.cut_always = 0
    result = desk.run()
    assert_failed(result, "broke 5 times in a row", "100.0 kB", "./weights.sh gpt2 resumes")
    assert desk.names() == ["config.json", "model.safetensors.partial"]
    assert desk.partial.read_bytes() == WEIGHTS[:100_000]
    # The first attempt brought something, so the count of those in a row starts with it.
    assert len(server.ranges_asked()) == 5
    assert desk.waits() == ["1", "2", "4", "8"]


@pytest.mark.slow
def test_a_stalled_connection_counts_as_broken(desk, server):
    desk.write_script(STALL_SECONDS=1)
    server.pause_at = 4000  # few enough to be slow from the first second: curl looks at the last five
    with desk.started() as process:
        assert server.pausing.wait(20)
        server.pause_at = None  # for the next request; this one never goes on
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    desk.assert_installed()
    assert server.ranges_asked() == [None, "bytes=4000-"]


@pytest.mark.slow
def test_a_crawl_counts_as_stalled_and_not_as_progress(tmp_path):
    # Ten bytes a second, at the start, after a good half, and before any of the file. All three at once, to save time.
    with contextlib.ExitStack() as stack:
        runs = []
        for crawls, start in [("body", 0), ("body", PAUSE), ("headers", 0)]:
            server = stack.enter_context(serving())
            server.crawls = crawls
            folder = tmp_path / str(len(runs))
            folder.mkdir()
            desk = Desk(folder, server.url)
            desk.write_script(STALL_SECONDS=1, ATTEMPTS=2)
            desk.plant_partial(WEIGHTS[:start])
            runs.append((server, stack.enter_context(desk.started())))
        for server, run in runs:
            _, errors = run.communicate(timeout=30)
            assert run.returncode == 1, errors
            assert "less than 1000 bytes/sec" in errors.lower(), errors
            assert len(server.ranges_asked()) <= 2
            server.go_on.set()


def test_a_busy_server_is_asked_again(desk, server):
    server.statuses["model.safetensors"] = 503
    assert_failed(desk.run(), "HTTP 503", "5 times")
    assert desk.waits() == ["1", "2", "4", "8"]
    assert desk.names() == ["config.json"]


@pytest.mark.parametrize(
    ("whole_group", "number", "status"),
    [(True, signal.SIGINT, 130), (False, signal.SIGINT, 130), (False, signal.SIGTERM, 143)],
    ids=["ctrl-c", "kill-INT", "kill-TERM"],
)
def test_a_stopped_run_is_resumed_by_the_next(desk, server, whole_group, number, status):
    server.pause_at = PAUSE
    with sigint_not_ignored(), desk.started() as process:
        until(desk.is_halfway)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert re.fullmatch(
        r"weights.sh: stopped; 1\.\d MB of model.safetensors are kept: ./weights.sh gpt2 resumes there",
        errors.splitlines()[-1],
    )
    assert len(errors.splitlines()) == 3  # one for each file, and this one
    assert desk.names() == ["config.json", "model.safetensors.partial"]  # and no lock
    kept = size(desk.partial)
    server.pause_at = None
    server.go_on.set()
    result = desk.run()
    assert_fine(result)
    assert "resuming at 1." in result.stderr
    desk.assert_installed()
    assert server.ranges_asked() == [None, f"bytes={kept}-"]


def test_a_server_that_cannot_resume_is_asked_for_the_whole_file_once(desk, server):
    server.ranges = False
    server.cuts = [100_000]
    result = desk.run()
    assert_fine(result)
    assert "cannot resume" in result.stderr
    desk.assert_installed()
    assert server.ranges_asked() == [None, "bytes=100000-", None]


def test_a_server_that_cannot_resume_and_keeps_breaking_is_given_up(desk, server):
    server.ranges = False
    server.cut_always = 100_000
    assert_failed(desk.run(), "cannot resume")
    assert len(server.ranges_asked()) == 4
    assert not desk.final.exists()


def test_a_whole_partial_is_only_checked(desk, server):
    desk.folder.mkdir(parents=True)
    desk.partial.write_bytes(WEIGHTS)
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == []


@pytest.mark.parametrize("says_size", [True, False])
def test_a_whole_partial_of_unknown_size_is_recognised_by_the_servers_416(desk, server, says_size):
    desk.write_script(weights_bytes="-")
    server.says_size_in_416 = says_size
    desk.folder.mkdir(parents=True)
    desk.partial.write_bytes(WEIGHTS)
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == [f"bytes={len(WEIGHTS)}-"]


@pytest.mark.parametrize(("pinned", "asked"), [(len(WEIGHTS), [None]), ("-", [f"bytes={len(WEIGHTS) + 4}-", None])])
def test_a_partial_longer_than_the_file_is_thrown_away(desk, server, pinned, asked):
    desk.write_script(weights_bytes=pinned)
    desk.folder.mkdir(parents=True)
    desk.partial.write_bytes(WEIGHTS + b"more")
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == asked


@pytest.mark.parametrize("content_range", ["bytes 0-{last}/{total}", "bytes 100001-{last}/{total}", None])
def test_a_reply_that_does_not_start_where_asked_is_not_appended(desk, server, content_range):
    server.content_range = content_range
    desk.plant_partial(WEIGHTS[:100_000])
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == ["bytes=100000-", None]


def test_a_cut_reply_that_did_not_say_its_length_is_resumed(desk, server):
    server.says_length = False
    server.cuts = [100_000, 1_000_000]
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == [None, "bytes=100000-", "bytes=1100000-"]


def test_empty_replies_without_a_length_do_not_cost_what_is_already_there(desk, server):
    server.says_length = False
    server.cuts, server.cut_always = [100_000], 0
    assert_failed(desk.run(), "broke 5 times in a row", "100.0 kB of model.safetensors are kept")
    assert desk.partial.read_bytes() == WEIGHTS[:100_000]


def cut(desk, server, chance):
    """Start a download and break it in one of six ways: at a random byte, or at a random moment."""
    way = chance.choice(["server", "no length", "run", "group", signal.SIGTERM, signal.SIGINT])
    server.says_length = way != "no length"
    if way in ("server", "no length"):
        server.cuts, server.cut_always = [chance.randrange(len(WEIGHTS))], 0
        desk.run()
        server.cut_always = None
        return way
    # A pause makes sure that some moments are in the middle of the weights.
    server.pause_at = chance.choice([None, chance.randrange(len(WEIGHTS))])
    server.go_on.clear()
    with sigint_not_ignored(), desk.started() as process:
        time.sleep(chance.uniform(0, 0.4))
        with contextlib.suppress(ProcessLookupError):
            if way == "group":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL if way == "run" else way)
        server.pause_at = None
        server.go_on.set()
        process.communicate(timeout=20)
    return way


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_download_cut_anywhere_leaves_nothing_unverified_and_the_next_run_completes(desk, server, times):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(times):
        shutil.rmtree(desk.folder, ignore_errors=True)
        for _ in range(chance.choice([1, 1, 2, 3])):
            way = cut(desk, server, chance)
            for path, body in [(desk.folder / "config.json", CONFIG), (desk.final, WEIGHTS)]:
                assert not path.exists() or path.read_bytes() == body
            assert not desk.record.exists() or desk.final.exists()
            print(f"{way}: {size(desk.partial)} bytes of a partial, {size(desk.final)} of the file")
        server.cuts = []
        server.says_length = True
        assert_fine(desk.run())
        assert desk.final.read_bytes() == WEIGHTS
        assert desk.record.exists()
    assert "already there" in desk.run().stderr


# ---- It checks ---------------------------------------------------------------------------------


def test_a_flipped_byte_leaves_nothing_and_a_good_server_then_heals_it(desk, server):
    server.flip = 250_000
    result = desk.run()
    wrong = bytearray(WEIGHTS)
    wrong[250_000] ^= 1
    digests = [hashlib.sha256(body).hexdigest() for body in (WEIGHTS, wrong)]
    assert_failed(result, "not the published file", *digests)
    assert desk.names() == ["config.json"]
    assert server.ranges_asked() == [None]  # one piece: asking again would bring the same
    server.flip = None
    assert_fine(desk.run())
    desk.assert_installed()


def test_a_flipped_byte_in_an_old_partial_is_healed_by_starting_again_once(desk, server):
    desk.folder.mkdir(parents=True)
    stale = bytearray(WEIGHTS[:100_000])
    stale[5] ^= 1
    desk.partial.write_bytes(stale)
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked() == ["bytes=100000-", None]


def test_a_server_that_is_wrong_after_resuming_too_is_asked_only_twice(desk, server):
    desk.folder.mkdir(parents=True)
    desk.partial.write_bytes(WEIGHTS[:100_000])
    server.flip = 250_000
    assert_failed(desk.run(), "not the published file")
    assert server.ranges_asked() == ["bytes=100000-", None]
    assert desk.names() == ["config.json"]


def test_the_real_pins_refuse_the_made_up_files(desk):
    shutil.copy(SCRIPT, desk.script)
    assert_failed(desk.run(), "config.json", "expected 665 bytes", f"found {len(CONFIG)}")
    assert desk.names() == []


@pytest.mark.parametrize(
    ("name", "resumed", "pins"),
    [
        ("model.safetensors", b"", {}),
        ("model.safetensors", WEIGHTS[:100_000], {}),
        ("model.safetensors", b"", {"weights_bytes": "-", "parameters": 700_000}),
        ("config.json", None, {}),
        ("config.json", None, {"config_bytes": "-"}),
    ],
    ids=["weights", "resumed", "weights of unknown size", "config", "config of unknown size"],
)
def test_an_endless_reply_is_cut_where_the_file_should_end(desk, server, name, resumed, pins):
    desk.write_script(**pins)
    server.endless = [name]
    if resumed is not None:
        desk.plant_partial(resumed)
    assert_failed(desk.run(), "not the published file", "found more", "deleted it")
    assert server.sent < ENDLESS / 2  # the rest waits in the buffers of sockets
    assert f"{name}.partial" not in desk.names()
    assert name not in desk.names()


@pytest.mark.parametrize("partial", [b"", WEIGHTS[:100_000], WEIGHTS[:-1]], ids=["fresh", "resumed", "last byte"])
def test_a_reply_that_announces_too_much_is_refused_before_it_comes(desk, server, partial):
    server.announced = 10**12
    desk.plant_partial(partial)
    assert_failed(desk.run(), "not the published file", f"more than {len(WEIGHTS)} bytes are announced")
    assert len(server.ranges_asked()) == 1
    assert size(desk.partial) == len(partial)


@pytest.mark.parametrize("says_length", [True, False])
def test_an_empty_reply_is_said_plainly(desk, server, says_length):
    server.squeeze = lambda body: b""
    server.says_length = says_length
    desk.plant_config()
    assert_failed(desk.run(), "not the published file", f"expected {len(WEIGHTS)} bytes, found 0")
    assert desk.names() == ["config.json"]
    desk.write_script(weights_bytes="-")
    assert_failed(desk.run(), "not the published file", "it is empty")


def test_a_compressed_reply_is_refused(desk, server):
    server.squeeze = gzip.compress
    desk.plant_config()
    assert_failed(desk.run(), "not the published file", f"expected {len(WEIGHTS)} bytes, found ")
    assert desk.names() == ["config.json"]


PAGE = ("text/html; charset=utf-8", b"<!DOCTYPE html><title>Welcome to the hotel</title>" * 50)


@pytest.mark.parametrize(
    "page", [PAGE, ("Text/HTML", b""), ("application/xhtml+xml", b"<html/>")], ids=["long", "empty", "xhtml"]
)
def test_a_web_page_in_place_of_a_file_is_called_that(desk, server, page):
    server.pages["config.json"] = page
    assert_failed(desk.run(), "web page", "log in")
    assert len(server.log) == 1
    assert desk.names() == []


def test_a_web_page_does_not_cost_what_is_already_there(desk, server):
    server.pages["model.safetensors"] = PAGE
    desk.plant_partial(WEIGHTS[:100_000])
    assert_failed(desk.run(), "web page", "100.0 kB of model.safetensors are kept")
    assert desk.partial.read_bytes() == WEIGHTS[:100_000]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_someone_elses_file_under_the_final_name_is_left_alone(desk, server, name):
    desk.folder.mkdir(parents=True)
    (desk.folder / name).write_bytes(b"my own checkpoint")
    assert_failed(desk.run(), str(desk.folder / name), "move it away or delete it")
    assert (desk.folder / name).read_bytes() == b"my own checkpoint"
    assert server.requests_for(name) == []


def test_a_folder_under_the_final_name_is_left_alone(desk):
    desk.final.mkdir(parents=True)
    assert_failed(desk.run(), "not a regular file")
    assert list(desk.final.iterdir()) == []


# ---- It says what is wrong ---------------------------------------------------------------------


def test_a_404_names_the_address_and_is_not_retried(desk, server):
    server.statuses["model.safetensors"] = 404
    address = f"{server.url}/{REPOS['gpt2']}/resolve/{REVISIONS['gpt2']}/model.safetensors"
    assert_failed(desk.run(), "404", address)
    assert len(server.ranges_asked()) == 1
    assert desk.names() == ["config.json"]  # and no empty partial


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("token", "advice"), [(None, "set HF_TOKEN"), (TOKEN, "try without it")])
def test_a_refused_token_is_named(desk, server, status, token, advice):
    server.statuses["config.json"] = status
    assert_failed(desk.run(HF_TOKEN=token), str(status), "HF_TOKEN", advice)
    assert len(server.log) == 1


def test_no_server_is_said_plainly_and_at_once(desk):
    with serving() as gone:
        url = gone.url
    desk.folder.mkdir(parents=True)
    (desk.folder / "config.json").write_bytes(CONFIG)
    desk.partial.write_bytes(WEIGHTS[:100_000])
    result = desk.run(HF_ENDPOINT=url)
    assert_failed(result, f"cannot reach {url}: no network?", "100.0 kB of model.safetensors are kept")
    assert desk.waits() == []
    assert desk.partial.read_bytes() == WEIGHTS[:100_000]


def test_no_name_service_is_said_plainly_and_at_once(desk):
    # .invalid is reserved: no resolver may ever find it (RFC 6761).
    result = desk.run(HF_ENDPOINT="http://nonexistent.invalid")
    assert_failed(result, "cannot reach http://nonexistent.invalid: no network?")
    assert desk.waits() == []
    assert desk.names() == []


def test_a_network_that_goes_away_in_the_middle_is_waited_for(desk, server):
    # The weights are redirected to a port where nobody listens, then to one where somebody does.
    with serving() as gone:
        server.redirects["model.safetensors"] = gone.url
    with desk.started() as process:
        until(lambda: desk.waits() == ["1"])
        del server.redirects["model.safetensors"]
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    desk.assert_installed()


def test_a_folder_that_cannot_be_made_is_named(desk):
    regular = desk.tmp / "regular file"
    regular.write_text("not a folder")
    result = desk.run(NANOGPT_NP_HOME=regular / "x")
    assert_failed(result, f"cannot write to {regular}/x/gpt2", "NANOGPT_NP_HOME")


def test_too_small_a_disk_is_noticed_before_the_first_byte(desk, server):
    desk.write_script(weights_bytes=10**18)
    assert_failed(desk.run(), "not enough space", "1000000000.00 GB")
    assert server.ranges_asked() == []


def test_a_disk_that_fills_up_keeps_what_it_has_for_the_next_run(desk, server):
    # A limit on file size fails a write just as a full disk does, once its signal is ignored.
    full = "trap '' XFSZ; ulimit -f 100; exec \"$@\""  # in kB of 1024
    result = desk.run(command=[BASH, "-c", full, "limited", BASH])
    assert_failed(result, f"cannot write {desk.partial} (disk full?)", "102.4 kB")
    assert len(server.ranges_asked()) == 1
    assert desk.names() == ["config.json", "model.safetensors.partial"]
    assert_fine(desk.run())
    desk.assert_installed()
    assert server.ranges_asked()[1] == "bytes=102400-"


def tool_folder(desk, without):
    """A folder with all the programs that weights.sh calls, but for those in `without`."""
    folder = desk.tmp / "tools"
    folder.mkdir()
    tools = "cat curl df ls mkdir mv openssl ps rm rmdir sha256sum shasum sleep stat sync tail tr uname wc"
    for tool in tools.split():
        path = shutil.which(tool)
        if path and tool not in without:
            (folder / tool).symlink_to(path)
    return folder


@pytest.mark.parametrize("tool", ["sha256sum", "shasum", "openssl"])
def test_one_of_three_programs_for_the_digest_is_enough(desk, tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    without = {"sha256sum", "shasum", "openssl", "ps", "stat", "sync"} - {tool}
    assert_fine(desk.run(PATH=tool_folder(desk, without)))
    desk.assert_installed()


def test_programs_for_the_digest_that_do_not_work_are_passed_over(desk):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    executable(desk.bin / "sha256sum", "#!/bin/sh\nexit 1\n")
    executable(desk.bin / "shasum", f"#!/bin/sh\necho {'0' * 64} -\n")
    assert_fine(desk.run())
    desk.assert_installed()
    executable(desk.bin / "openssl", "#!/bin/sh\necho oops\n")
    assert_failed(desk.run(), "none of sha256sum, shasum and openssl")


@pytest.mark.parametrize("missing", [["curl"], ["sha256sum", "shasum", "openssl"], ["df"]], ids=" ".join)
def test_a_missing_program_is_named(desk, missing):
    assert_failed(desk.run(PATH=tool_folder(desk, missing)), *missing)


@pytest.mark.parametrize(
    "endpoint", ["huggingface.co", f"x://u:{PASSWORD}@y", 'http://x"\nurl="http://y', "http://x?y"]
)
def test_an_endpoint_that_is_no_web_address_is_refused(desk, endpoint):
    shown = endpoint.replace("\n", "\\x0a").replace(f"u:{PASSWORD}", "***")
    assert_failed(desk.run(HF_ENDPOINT=endpoint), f"HF_ENDPOINT is '{shown}'")


@pytest.fixture
def certificate(tmp_path):
    """Return a file with a certificate for 127.0.0.1 and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    path = tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", path],
        check=True,
        capture_output=True,
    )
    return path


def test_a_redirect_from_https_to_http_is_not_followed(desk, server, certificate):
    with serving(certificate) as secure:
        secure.redirects["model.safetensors"] = server.url
        result = desk.run(HF_ENDPOINT=secure.url, CURL_CA_BUNDLE=certificate)
        assert_failed(result, "redirects to a protocol other than https")
    assert server.log == []
    assert desk.names() == ["config.json"]  # which did come over https


def test_a_redirect_from_http_to_https_is_followed(desk, server, certificate):
    with serving(certificate) as secure:
        server.redirects["model.safetensors"] = secure.url
        assert_fine(desk.run(CURL_CA_BUNDLE=certificate))
    desk.assert_installed()


@pytest.mark.parametrize("target", ["ftp://127.0.0.1:1", "file://", "dict://127.0.0.1:1", "scp://127.0.0.1:1"])
def test_a_redirect_out_of_the_web_is_not_followed(desk, server, target):
    server.redirects["config.json"] = target
    assert_failed(desk.run(), "redirects to a protocol other than http,https")
    assert desk.names() == []


def test_a_redirect_in_a_circle_ends(desk, server):
    server.redirects["config.json"] = server.url
    assert_failed(desk.run(), "redirects")
    assert len(server.log) == 11


@pytest.mark.parametrize("odd", ["{a,b} [1-2] #1 %41 *", "$(x) `x` é\n'b\"c"])
def test_an_odd_folder_is_taken_literally(desk, server, odd):
    assert_fine(desk.run(NANOGPT_NP_HOME=desk.tmp / odd))
    assert (desk.tmp / odd / "gpt2" / "model.safetensors").read_bytes() == WEIGHTS
    assert len(server.log) == 2


def test_an_odd_mirror_is_taken_literally(desk, server):
    odd = "{a,b}/[1-2]/%7Ba%7D%20"
    assert_fine(desk.run(HF_ENDPOINT=f"{server.url}/{odd}//"))
    desk.assert_installed()
    assert server.revisions == {(f"{odd}/{REPOS['gpt2']}", REVISIONS["gpt2"])}
    assert len(server.log) == 2


# ---- Whose files are these? --------------------------------------------------------------------


def plant(kind, path, victim):
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("not there"))
    elif kind == "hard link":
        path.hardlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can make files of another user")
        path.write_bytes(b"")
        os.chown(path, 12345, 12345)


WORK_FILES = ["model.safetensors.partial", ".lock", ".lock.log", ".lock.http", "model.safetensors.sha256.partial"]
KINDS = ["link", "dangling link", "hard link", "pipe", "folder", "another user's"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(WORK_FILES[0], kind) for kind in KINDS] + [(name, KINDS[i]) for i in (0, 3) for name in WORK_FILES[1:]],
)
def test_nothing_is_written_through_what_stands_under_the_name_of_a_work_file(desk, server, name, kind):
    victim = desk.tmp / "victim"
    victim.write_bytes(b"a file of the user")
    desk.plant_config()
    plant(kind, desk.folder / name, victim)
    assert_failed(desk.run(), str(desk.folder / name), "delete it")
    assert victim.read_bytes() == b"a file of the user"
    assert not (desk.tmp / "not there").exists()
    assert not desk.lock.is_file() or name == ".lock"  # no lock of this run stays


def test_a_disk_that_gives_new_files_another_owner_is_no_obstacle(desk, server):
    # As a network disk does with root's files, and a disk without owners with everybody's.
    line = "-rw-r--r-- 1 4711 4711 0 Jan 1 00:00 x"
    executable(desk.bin / "ls", f"#!/bin/sh\necho '{line}'\n")
    server.cuts = [100_000]
    assert_fine(desk.run())
    desk.assert_installed()


@pytest.mark.parametrize("which", ["home", "folder"])
@pytest.mark.parametrize("owner", [None, 12345])
def test_a_linked_folder_is_used_if_the_user_made_the_link(desk, which, owner):
    if owner and os.geteuid() != 0:
        pytest.skip("only root can make links of another user")
    link, elsewhere = getattr(desk, which), desk.tmp / "another disk"
    elsewhere.mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    if owner:
        os.lchown(link, owner, owner)
        assert_failed(desk.run(), str(link), "symbolic link of another user")
        assert list(elsewhere.iterdir()) == []
    else:
        assert_fine(desk.run())
        desk.assert_installed()


# ---- What it prints ----------------------------------------------------------------------------

STEERING = {
    "escape sequences": "\x1b[31mred\x1b]0;title\x07\u0085\u009b31m",
    "lines": "a\rb\nc\u2028d\x0be",
    "direction": "\u202egnp.exe\u2066x\ufeff\u061c",
    "bytes": "\udc9b31m\udcc3",
}


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_nothing_printed_steers_a_terminal(desk, server, text):
    desk.folder.mkdir(parents=True)
    desk.lock.write_bytes(f"1 {text}\n2 other".encode("utf-8", "surrogateescape"))
    with desk.started() as waiting:
        said = waiting.stderr.readline()
        waiting.terminate()
        waiting.communicate(timeout=20)
    results = [
        desk.run(f"--{text}"),
        desk.run("--", text),
        desk.run("--help", NANOGPT_NP_HOME=f"/{text}"),
        desk.run(HF_ENDPOINT=text),
        desk.run(NANOGPT_NP_HOME=desk.tmp / text),
    ]
    assert [result.returncode for result in results] == [2, 2, 0, 1, 0]
    for printed in [said, *(result.stdout + result.stderr for result in results)]:
        assert "\\x" in printed
        assert not STEERS_A_TERMINAL.search(printed)


def test_letters_of_any_script_are_shown_as_they_are(desk):
    text = "naïve ñ 模型 😀 \u0300\u07ff\u0800\ud7ff\U0010ffff"
    assert f"Folder: /{text}/MODEL\n" in desk.run("--help", NANOGPT_NP_HOME=f"/{text}").stdout


def test_what_curl_says_is_escaped_too(desk, server):
    executable(desk.bin / "curl", "#!/bin/sh\nprintf 'curl: (60) bad \\033[31m\\342\\200\\256name' >&2\nexit 60\n")
    assert_failed(desk.run(), "(curl exit 60: bad \\x1b[31m\\xe2\\x80\\xaename)")


@pytest.mark.parametrize(
    "name", ["a" * 100_000, "-" * 100_000, "é" * 50_000, "\x1b" * 1000], ids=lambda name: ascii(name[0])
)
def test_every_line_has_a_bounded_length(desk, name):
    result = desk.run(name)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr) < 1000
    assert "bytes)..." in result.stderr


@pytest.mark.parametrize("variable", ["NANOGPT_NP_HOME", "HOME", "HF_ENDPOINT", "HF_TOKEN", "http_proxy"])
def test_a_long_setting_is_refused_in_one_short_line(desk, variable):
    assert_failed(desk.run(**{variable: "/" * 100_000 + "@"}), f"{variable} has 100001 bytes; expected at most 4000")


@pytest.mark.parametrize("user", [f"somebody:{PASSWORD}", PASSWORD, f"a:b%40{PASSWORD}"])
def test_a_password_in_the_address_is_used_but_not_shown(desk, server, user):
    secret = server.url.replace("//", f"//{user}@")
    result = desk.run(HF_ENDPOINT=secret)
    assert_fine(result)
    assert {authorization.split()[0] for _, _, authorization in server.log} == {"Basic"}
    (desk.folder / "config.json").unlink()
    server.statuses["config.json"] = 404
    failed = desk.run(HF_ENDPOINT=secret)
    assert_failed(failed, "404", "//***@127.0.0.1:")
    for said in (result.stdout, result.stderr, failed.stderr):
        assert PASSWORD not in said


@pytest.mark.parametrize(
    ("variable", "user"),
    [
        ("http_proxy", f"somebody:{PASSWORD}"),
        ("ALL_PROXY", f"some body:{PASSWORD}"),
        ("all_proxy", f"somebody:/{PASSWORD}"),
    ],
)
def test_a_password_of_a_proxy_is_not_shown(desk, variable, user):
    result = desk.run(**{variable: f"http://{user}@127.0.0.1:1", "NO_PROXY": None, "no_proxy": None})
    assert result.returncode == 1
    assert "curl exit" in result.stderr  # curl did try the proxy
    assert PASSWORD not in result.stderr


# ---- The token ---------------------------------------------------------------------------------


def test_the_token_is_sent_and_does_not_follow_to_another_host(desk, server):
    with serving() as cdn:
        cdn.cuts = [100_000]
        server.redirects["model.safetensors"] = cdn.url
        assert_fine(desk.run(HF_TOKEN=f"{TOKEN}\n", HF_ENDPOINT=f"{server.url}/"))
        desk.assert_installed()
        assert {authorization for _, _, authorization in server.log} == {f"Bearer {TOKEN}"}
        assert server.revisions == {(REPOS["gpt2"], REVISIONS["gpt2"])}  # no slash too many in an address
        assert cdn.log == [
            ("model.safetensors", None, None),
            ("model.safetensors", "bytes=100000-", None),  # resumed through the redirect
        ]


def test_without_a_token_none_is_sent(desk, server):
    assert_fine(desk.run())
    assert {authorization for _, _, authorization in server.log} == {None}


def test_neither_token_nor_password_is_on_any_command_line(desk, server):
    if not shutil.which("ps"):
        pytest.skip("ps is not installed")
    server.pause_at = PAUSE
    with desk.started(HF_TOKEN=TOKEN, HF_ENDPOINT=server.url.replace("//", f"//u:{PASSWORD}@")) as process:
        until(desk.is_halfway)
        lines = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True).stdout
        server.go_on.set()
        process.communicate(timeout=20)
    assert f"--output {desk.partial}" in lines  # curl was running, and was seen
    assert TOKEN not in lines
    assert PASSWORD not in lines


def test_a_token_that_could_smuggle_in_curl_options_is_refused(desk, server):
    assert_failed(desk.run(HF_TOKEN='x"\nurl = "http://127.0.0.1:1/'), "HF_TOKEN")
    assert server.log == []


# ---- Two at once -------------------------------------------------------------------------------


def test_a_second_run_waits_for_the_first_and_downloads_nothing(desk, server):
    server.pause_at = PAUSE
    with desk.started() as first:
        until(desk.is_halfway)
        with desk.started() as second:
            said = second.stderr.readline()
            assert said.startswith(f"waiting for another weights.sh (process {first.pid})")
            until(lambda: len(desk.waits()) > 3)
            server.go_on.set()
            _, rest = second.communicate(timeout=20)
        first.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0)
    assert rest == ""  # said once
    desk.assert_installed()
    assert [name for name, _, _ in server.log] == ["config.json", "model.safetensors"]


def dead_process():
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def host_name():
    return subprocess.run(["uname", "-n"], capture_output=True, text=True).stdout.strip()


def test_the_lock_of_a_dead_run_is_taken_over_by_one_of_many(desk, server):
    desk.folder.mkdir(parents=True)
    desk.lock.write_text(f"{dead_process()} {host_name()}\n" * 2)
    server.pause_at = PAUSE
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(desk.started()) for _ in range(6)]
        until(desk.is_halfway)
        until(lambda: len(desk.waits()) > 10)
        server.go_on.set()
        for run in runs:
            run.communicate(timeout=20)
    assert [run.returncode for run in runs] == [0] * 6
    desk.assert_installed()
    assert [name for name, _, _ in server.log] == ["config.json", "model.safetensors"]


@pytest.mark.slow
def test_a_curl_that_outlives_its_killed_run_is_waited_for(desk, server):
    server.pause_at = PAUSE
    with desk.started() as first:
        until(desk.is_halfway)
        first.kill()  # -9: no trap runs, and curl goes on
        first.communicate(timeout=20)
    curl = desk.lock.read_text().split()[-2]
    with desk.started() as second:
        assert f"(process {curl})" in second.stderr.readline()
        server.go_on.set()
        _, errors = second.communicate(timeout=20)
    assert second.returncode == 0, errors
    desk.assert_installed()
    assert len(server.ranges_asked()) == 1


def test_a_lock_from_another_host_is_respected_and_named(desk, server):
    desk.folder.mkdir(parents=True)
    desk.lock.write_text("12345 some-other-host\n")
    with desk.started() as process:
        said = process.stderr.readline()
        assert "process 12345 on some-other-host" in said
        assert f"delete {desk.lock}" in said
        desk.lock.unlink()
        process.communicate(timeout=20)
    assert process.returncode == 0
    desk.assert_installed()


def test_a_guard_left_by_a_killed_run_is_removed_after_a_while(desk):
    (desk.folder / ".lock.guard").mkdir(parents=True)
    assert_fine(desk.run())
    desk.assert_installed()
    assert len(desk.waits()) == 10


def test_a_guard_that_cannot_be_removed_is_named_and_not_waited_for_without_end(desk, server):
    (desk.folder / ".lock.guard" / "something").mkdir(parents=True)
    assert_failed(desk.run(), str(desk.folder / ".lock.guard"), "delete it")
    assert server.log == []


# ---- The command line --------------------------------------------------------------------------


def test_the_pins_are_the_published_ones():
    reference = json.loads((HERE / "reference" / "gpt2_published.json").read_text())["files"]
    lines = subprocess.run(
        [BASH, str(SCRIPT), "--pins"], env={**os.environ, "HOME": "/"}, capture_output=True, text=True
    ).stdout.splitlines()
    found, models = {}, []
    for model, repo, revision, name, digest, size in map(str.split, lines):
        models += [model]
        assert repo.endswith(f"/{model}")
        found.setdefault(repo, {"revision": revision})
        assert found[repo]["revision"] == revision
        found[repo][name] = (digest, None if size == "-" else int(size))
    expected = {
        repo: {
            name: value if name == "revision" else (value["sha256"], value["bytes"]) for name, value in entry.items()
        }
        for repo, entry in reference.items()
    }
    assert found == expected
    assert list(dict.fromkeys(models)) == ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2"]


def test_list_says_what_is_there(desk, server):
    def listed():
        result = desk.run("--list")
        assert_fine(result)
        return {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}

    assert listed()["gpt2"] == ["124439808", "3.0", "MB", "no", REVISIONS["gpt2"]]
    assert listed()["gpt2-medium"][:4] == ["354823168", "1.51", "GB", "no"]
    assert listed()["gpt2-large"][:3] == ["774030080", "?", "no"]
    assert listed()["gpt2-xl"][:3] == ["1557611200", "?", "no"]
    assert listed()["distilgpt2"][0] == "81912576"
    server.cuts, server.cut_always = [100_000], 0
    desk.run()
    assert listed()["gpt2"][3] == "partial"
    server.cut_always = None
    desk.run()
    assert listed()["gpt2"][3] == "yes"
    desk.record.unlink()
    assert listed()["gpt2"][3] == "unchecked"
    assert listed()["distilgpt2"][3] == "no"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_option_model_and_variable(desk, server, option):
    result = desk.run(option)
    assert_fine(result)
    words = "--list --pins --help gpt2-xl distilgpt2 NANOGPT_NP_HOME HF_ENDPOINT HF_TOKEN 130"
    for word in [*words.split(), f"{desk.home}/MODEL"]:
        assert word in result.stdout
    assert result.stderr == ""
    assert server.log == []


@pytest.mark.parametrize("option", ["--force", "-x", "-"])
def test_an_unknown_option_is_wrong_usage(desk, option):
    result = desk.run(option)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"weights.sh: unknown option '{option}'; see ./weights.sh --help\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bert", ""),
        ("", ""),
        ("GPT2_Medium", "; did you mean gpt2-medium?"),
        ("openai-community/gpt2-xl", "; did you mean gpt2-xl?"),
        ("large", "; did you mean gpt2-large?"),
        ("gpt-2", "; did you mean gpt2?"),
    ],
)
def test_an_unknown_model_is_wrong_usage_before_anything_is_downloaded(desk, server, name, hint):
    result = desk.run("gpt2", name)
    assert (result.returncode, result.stdout) == (2, "")
    known = "gpt2 gpt2-medium gpt2-large gpt2-xl distilgpt2"
    assert result.stderr == f"weights.sh: unknown model '{name}'; known: {known}{hint}\n"
    assert server.log == []


@pytest.mark.parametrize(
    ("system", "cache", "expected"),
    [
        ("Linux", "/c d/cache", "/c d/cache/nanogpt_np"),
        ("Linux", None, "/h/.cache/nanogpt_np"),
        ("Linux", "", "/h/.cache/nanogpt_np"),
        ("Darwin", "/c d/cache", "/h/Library/Caches/nanogpt_np"),
    ],
)
@pytest.mark.parametrize("home", [None, ""])
def test_the_default_folder_is_the_users_cache(desk, system, cache, expected, home):
    executable(desk.bin / "uname", f"#!/bin/sh\necho {system}\n")
    result = desk.run("--list", NANOGPT_NP_HOME=home, HOME="/h", XDG_CACHE_HOME=cache)
    assert result.stderr == f"in {expected}\n"


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_without_a_home_only_a_download_fails(desk, server, system):
    executable(desk.bin / "uname", f"#!/bin/sh\necho {system}\n")
    nowhere = {"NANOGPT_NP_HOME": None, "HOME": ""}
    assert "NANOGPT_NP_HOME" in desk.run("--help", **nowhere).stdout
    assert len(desk.run("--pins", **nowhere).stdout.splitlines()) == 10
    listed = desk.run("--list", **nowhere)
    assert_fine(listed)
    assert [line.split()[-2] for line in listed.stdout.splitlines()[1:]] == ["no"] * 5
    assert_failed(desk.run(**nowhere), "neither NANOGPT_NP_HOME nor HOME")
    assert_fine(desk.run(HOME="", LC_ALL="xx_YY.nonsense"))  # with NANOGPT_NP_HOME


def test_without_the_variable_home_the_system_is_asked_for_it(desk):
    pwd = pytest.importorskip("pwd")
    executable(desk.bin / "uname", "#!/bin/sh\necho Linux\n")
    result = desk.run("--list", NANOGPT_NP_HOME=None, HOME=None)
    assert result.stderr == f"in {pwd.getpwuid(os.getuid()).pw_dir}/.cache/nanogpt_np\n"


def test_a_user_whom_the_system_does_not_know_has_no_home(desk):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with SCRIPT.open() as script:  # which that user may not be able to open
        result = subprocess.run(
            [BASH, "-s", "--", "--list"],
            stdin=script,
            env={"PATH": os.environ["PATH"]},
            user=1_234_567,
            cwd="/",
            capture_output=True,
            text=True,
        )
    assert_fine(result)
    assert result.stderr == "neither NANOGPT_NP_HOME nor HOME says where to put the weights\n"


@pytest.mark.parametrize("folder", ["-models", "two words", "models///"])
def test_a_relative_folder_is_taken_from_where_one_stands(desk, folder):
    result = desk.run(NANOGPT_NP_HOME=folder)
    assert_fine(result)
    final = desk.tmp / folder / "gpt2" / "model.safetensors"
    assert final.read_bytes() == WEIGHTS
    assert f"/{folder.strip('/')}/gpt2\n" in result.stdout


@pytest.mark.parametrize(
    "env",
    [
        {"SHELLOPTS": "braceexpand:errexit:hashall:noclobber:noglob:pipefail"},
        {"POSIXLY_CORRECT": "1", "TMPDIR": "/not there", "LC_ALL": "tr_TR.UTF-8", "LANG": "xx_YY"},
        {"CDPATH": "/:/tmp", "IFS": "0123456789/", "GLOBIGNORE": "*", "BLOCK_SIZE": "1M", "LS_COLORS": "x"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_the_settings_of_the_environment_change_nothing(desk, server, env):
    desk.write_script(weights_bytes="-")
    server.cuts = [100_000]
    assert_fine(desk.run(**env))
    desk.assert_installed()


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed")
    result = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_script_is_executable():
    assert os.access(SCRIPT, os.X_OK)
