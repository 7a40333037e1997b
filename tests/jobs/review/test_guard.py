"""What the page refuses; the table in docs/review.md is of these."""

import socket
import stat
from pathlib import Path

import pytest

from storage.layout import SweepLayout
from tests.command_line import call
from tests.jobs.review.conftest import Served

EVIL = "evil.example"
SECRETS = ["/", "/pair/0", "/pair/0/first.png", "/page.js"]


@pytest.fixture(scope="module")
def session(served: Served) -> dict[str, str]:
    return served.enter("guard")


@pytest.mark.parametrize("path", [*SECRETS, "/verdict", "/undo", "/invite", "/name", "/nowhere"])
@pytest.mark.parametrize("cookie", ["", "ganlab-review-PORT=guess", "ganlab-review-PORT="])
def test_without_a_session_nothing_is_shown(served: Served, path: str, cookie: str) -> None:
    method = "GET" if path in SECRETS else "POST"
    headers = {"Cookie": cookie.replace("PORT", str(served.port))} if cookie else {}
    status, answered, body = served.ask(method, path, b"" if method == "POST" else None, headers)
    if path == "/":
        assert (status, answered["location"]) == (303, "/enter")
    else:
        assert status == 401
    assert b"img" not in body
    assert b"PNG" not in body


@pytest.mark.parametrize("secret", ["", "x", "0" * 43, "%00", "é", "token"])
def test_a_wrong_token_lets_nobody_in(served: Served, secret: str) -> None:
    status, headers, _ = served.ask("POST", "/enter", f"secret={secret}".encode())
    assert status == 401
    assert "set-cookie" not in headers


def test_a_link_lets_one_browser_in_once(served: Served, session: dict[str, str]) -> None:
    code = served.ask("POST", "/invite", b"", session)[2].decode().strip().split("#")[1]
    first, again = (served.ask("POST", "/enter", f"secret={code}".encode()) for _ in range(2))
    assert (first[0], again[0]) == (204, 401)
    flags = first[1]["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags


@pytest.mark.parametrize(
    "path",
    [
        "/../sweep.yaml",
        "/..%2fsweep.yaml",
        "/pair/../../sweep.yaml",
        "/pair/0/../../../sweep.yaml",
        "/pair/0/..%2f..%2fx.png",
        "/pair/0/%2e%2e/first.png",
        "/pair/0/first.png/..",
        "//etc/passwd",
        "/pair/0//etc/passwd.png",
        "/pair/-1",
        "/pair/99999999",
        "/pair/1e3",
        "/pair/0/neither.png",
        "/pair/0/first%00.png",
        "/static/page.js",
        "/page.js%00.css",
        "/sweep.yaml",
        "/verdicts.jsonl",
        "/templates/pair.html.j2",
        "/C:%5cboot.ini",
    ],
)
def test_no_path_reaches_the_disk(served: Served, session: dict[str, str], path: str) -> None:
    status, _, body = served.ask("GET", path, None, session)
    assert status in (400, 404)
    assert len(body) < 200
    for part in (b"final_images", b"root:", b"reviewer"):
        assert part not in body


@pytest.mark.parametrize(
    "host",
    [
        EVIL,
        f"{EVIL}:PORT",
        "127.0.0.1.evil.example:PORT",
        "localhost.evil.example",
        "evil.example@127.0.0.1",
        "",
        "127.0.0.1:PORT/x",
        "0.0.0.0:PORT",
        "[::1",
        "192.0.2.7:PORT",
    ],
)
def test_a_foreign_host_is_refused(served: Served, session: dict[str, str], host: str) -> None:
    """DNS rebinding: another page's name leads the browser here."""
    status, _, body = served.ask("GET", "/pair/0", None, {**session, "Host": host.replace("PORT", str(served.port))})
    assert status in (400, 421)
    assert b"img" not in body


@pytest.mark.parametrize("host", ["localhost:PORT", "localhost:9000", "127.0.0.1", "[::1]:PORT"])
def test_the_end_of_a_tunnel_is_no_foreign_host(served: Served, session: dict[str, str], host: str) -> None:
    assert served.ask("GET", "/pair/0", None, {**session, "Host": host.replace("PORT", str(served.port))})[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:PORT", "http://127.0.0.1:1", "http://127.0.0.1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_refused(served: Served, session: dict[str, str], origin: str, method: str) -> None:
    given = {**session, "Origin": origin.replace("PORT", str(served.port))}
    path, body = ("/pair/0", None) if method == "GET" else ("/verdict", b"verdict=duplicate&number=0")
    assert served.ask(method, path, body, given)[0] == 403


def test_a_request_of_another_site_is_refused(served: Served, session: dict[str, str]) -> None:
    given = {**session, "Sec-Fetch-Site": "cross-site"}
    assert served.ask("POST", "/invite", b"", given)[0] == 403


@pytest.mark.parametrize("path", ["/verdict", "/enter", "/name", "/nowhere"])
@pytest.mark.parametrize("how", ["declared", "chunked", "understated"])
def test_ten_megabytes_are_refused_and_not_read(served: Served, session: dict[str, str], path: str, how: str) -> None:
    size = 10 * 2**20
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        length = {
            "declared": f"Content-Length: {size}",
            "chunked": "Transfer-Encoding: chunked",
            "understated": "Content-Length: 5000",
        }[how]
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {session['Cookie']}\r\n{length}\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        block = b"x" * 65536
        framed = b"10000\r\n" + block + b"\r\n" if how == "chunked" else block
        try:
            while sent < size:
                connection.sendall(framed)
                sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert answer[:12] in (b"HTTP/1.1 413", b"")
    assert sent < size or answer
    status, _, _ = served.ask("GET", "/pair/0", None, session)
    assert status == 200
    assert not served.layout.verdicts.exists() or b"xxxx" not in served.layout.verdicts.read_bytes()


@pytest.mark.parametrize(
    "form",
    [
        "",
        "verdict=duplicate",
        "verdict=duplicate&number=0&id=abcdefgh",
        "id=abcdefgh&choice=x&reviewer=guard",
        "verdict=duplicate&number=0&id=abcdefgh&choice=CHOICE&reviewer=somebody",
    ],
)
def test_a_verdict_of_another_review_is_refused(served: Served, session: dict[str, str], form: str) -> None:
    assert served.ask("POST", "/verdict", form.encode(), session)[0] == 409


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "maybe"},
        {"number": "-1"},
        {"number": "1000000"},
        {"number": "x"},
        {"id": "../../x"},
        {"id": "short"},
        {"id": "x" * 65},
        {"verdict": ""},
    ],
)
def test_a_malformed_verdict_is_refused(served: Served, session: dict[str, str], change: dict[str, str]) -> None:
    page = served.ask("GET", "/", None, session)[2].decode()
    choice = page.split('data-choice="')[1].split('"')[0]
    form = {"verdict": "duplicate", "number": "0", "id": "abcdefgh", "choice": choice, "reviewer": "guard"} | change
    body = "&".join(f"{key}={value}" for key, value in form.items())
    assert served.ask("POST", "/verdict", body.encode(), session)[0] == 400


def test_every_answer_forbids_what_comes_from_elsewhere(served: Served, session: dict[str, str]) -> None:
    for path in ("/", "/pair/0", "/page.js", "/pair/0/first.png", "/nowhere", "/enter"):
        headers = served.ask("GET", path, None, session)[1]
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_the_token_is_in_its_file_alone(served: Served) -> None:
    token = served.layout.review_token(served.port)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    process = Path("/proc", str(served.process.pid))
    assert len(served.token) >= 40
    assert served.token not in served.said
    for about in ("cmdline", "environ"):
        assert served.token.encode() not in (process / about).read_bytes()
    holding = [
        path for path in served.layout.root.rglob("*") if path.is_file() and served.token in path.read_text("latin-1")
    ]
    assert holding == [token]


def test_only_this_machine_can_connect(served: Served) -> None:
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in table]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{served.port:04X}")]
    assert listening == [f"0100007F:{served.port:04X}"]
    assert f"ssh -N -L {served.port}:127.0.0.1:{served.port} " in served.said
    assert "warning" not in served.said


@pytest.mark.process
def test_other_hosts_are_served_when_asked_for_with_a_warning_until_told_to_end(sweep: SweepLayout) -> None:
    page = Served(sweep, "--host", "0.0.0.0")
    try:
        assert "warning: served on 0.0.0.0 without encryption" in page.said
        assert page.ask("GET", "/enter", None, {"Host": f"192.0.2.7:{page.port}"})[0] == 200
        assert page.ask("GET", "/enter", None, {"Host": EVIL})[0] == 421
        assert page.ask("GET", "/pair/0", None)[0] == 401
        token = sweep.review_token(page.port)
        assert token.exists()
        assert page.stop() == 0
        assert not token.exists()
        assert "Traceback" not in page.said
    finally:
        page.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "PORT"], "allowed: a free port"),
        (["--host", "no.such.host.invalid"], "allowed: an address or name"),
        (["--port", "0"], "--port"),
        (["--pairs", "-1"], "--pairs"),
    ],
)
def test_what_cannot_be_served_is_one_line(served: Served, arguments: list[str], words: str) -> None:
    given = [each.replace("PORT", str(served.port)) for each in arguments]
    ended = call("review", served.layout.root, *given)
    assert ended.exit_code == 2
    assert words in ended.stderr
