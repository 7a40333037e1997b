"""The exporter's server: pages, a port that is taken, a scraper that hangs up."""

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from monitoring.exporter import PortInUseError, runbook_page, serve
from monitoring.metrics import MetricValues

ALERTS = Path(__file__).parents[2] / "monitoring" / "prometheus" / "alerts.yml"


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_serves_the_newest_snapshot_and_the_runbook() -> None:
    snapshots = [MetricValues()]
    with serve(lambda: snapshots[-1], "127.0.0.1", 0) as port:
        assert "ganlab_sweep_active" not in get(port, "/metrics")
        snapshots.append(MetricValues())
        snapshots[-1].set("ganlab_sweep_active", 1)
        assert "ganlab_sweep_active 1.0" in get(port, "/metrics")
        assert "<h1>Runbook</h1>" in re.sub(r'<h1 id="[^"]*">', "<h1>", get(port, "/runbook"))
        assert 'href="runbook"' in get(port, "/")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(port, "/etc/passwd")


def test_every_alert_leads_to_its_entry_in_the_runbook() -> None:
    page = runbook_page()
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert rule["annotations"]["runbook_url"].endswith(f"/runbook#{rule['alert']}")
        assert f'id="{rule["alert"]}"' in page
    headings = set(re.findall(r'<h2 id="([^"]+)"', page))
    assert headings == {rule["alert"] for rule in rules}
    assert set(re.findall(r'href="#([^"]+)"', page)) <= headings


@pytest.mark.process
def test_a_port_in_use_names_the_process_that_has_it() -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            port = int(holder.stdout.readline())
            with pytest.raises(PortInUseError) as error, serve(MetricValues, "127.0.0.1", port):
                pass
        finally:
            holder.kill()
    assert f"port {port} is in use by process {holder.pid} of " in str(error.value)
    assert "socket.create_server" in str(error.value)


def test_a_scraper_that_hangs_up_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(MetricValues, "127.0.0.1", 0) as port:
        with socket.create_connection(("127.0.0.1", port)) as scraper:
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            scraper.sendall(b"GET /metrics HT")
        get(port, "/metrics")
    assert "Traceback" not in capfd.readouterr().err
