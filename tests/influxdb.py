"""A real InfluxDB for tests: Debian's influxd 1.6, behind nginx that maps the write path of 1.8, 2 and 3 to its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from ingest.store.influx.login import InfluxLogin
from ingest.store.influx.server import InfluxServer
from tests.conftest import free_port, require

if TYPE_CHECKING:
    from pathlib import Path

_INFLUXD = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{directory}/meta"
logging-enabled = false
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
query-log-enabled = false
trace-logging-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
auth-enabled = {auth}
log-enabled = false
max-body-size = {max_body}
[logging]
level = "error"
"""

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 8m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream influxd {{ server 127.0.0.1:{influxd}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location = /api/v2/write {{
      set $precision $arg_precision;
      if ($precision = us) {{ set $precision u; }}
      rewrite ^ /write?db=$arg_bucket&precision=$precision? break;
      proxy_pass http://influxd;
    }}
    location / {{ proxy_pass http://influxd; }}
  }}
}}
"""


class Influx:
    """One influxd and its nginx on ports of their own; influxd can be stopped, killed, emptied and started again."""

    def __init__(self, directory: Path, *, auth: bool = False, max_body: int = 64_000_000) -> None:
        self._influxd, self._nginx = require("influxd"), require("nginx")
        self._directory = directory
        self._data = directory / "influxd"
        self._data.mkdir(parents=True, exist_ok=True)
        self.direct_port, self.port = free_port(), free_port()
        (directory / "influxd.conf").write_text(
            _INFLUXD.format(
                directory=self._data,
                port=self.direct_port,
                rpc=free_port(),
                auth=str(auth).lower(),
                max_body=max_body,
            )
        )
        (directory / "nginx.conf").write_text(
            _NGINX.format(
                directory=directory,
                influxd=self.direct_port,
                port=self.port,
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        self._server: subprocess.Popen[bytes] | None = None
        self._proxy: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where /api/v2/write is understood."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def direct_url(self) -> str:
        """Where only /write is."""
        return f"http://127.0.0.1:{self.direct_port}"

    def start(self) -> None:
        """Start what does not run and wait until it answers."""
        if self._proxy is None:
            self._proxy = _quiet(
                self._nginx,
                "-e",
                str(self._directory / "nginx.log"),
                "-p",
                str(self._directory),
                "-c",
                str(self._directory / "nginx.conf"),
            )
        if self._server is None:
            self._server = _quiet(self._influxd, "-config", str(self._directory / "influxd.conf"))
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/ping", timeout=5):
                    return
            except urllib.error.HTTPError as exc:  # nginx is there and influxd is not yet
                exc.close()
            except OSError:
                pass
            assert self._server.poll() is None, "influxd ended at once"
            assert self._proxy.poll() is None, "nginx ended at once"
            assert time.monotonic() < deadline, "influxd does not answer"
            time.sleep(0.02)

    def run(self, statement: str, **parameters: str) -> bytes:
        """Run any statement, as an administrator would."""
        url = f"{self.url}/query?{urllib.parse.urlencode(parameters)}"
        data = urllib.parse.urlencode({"q": statement}).encode()
        with urllib.request.urlopen(url, data=data, timeout=20) as reply:
            return reply.read()

    def database(self, name: str) -> InfluxLogin:
        """Make a database and return how to reach it."""
        self.run(f'CREATE DATABASE "{name}"')
        return InfluxLogin(url=self.url, bucket=name)

    def server(self, name: str) -> InfluxServer:
        """Make a database and speak to it."""
        return InfluxServer(self.database(name))

    def write(self, database: str, lines: str) -> None:
        """Write lines past agrigate."""
        url = f"{self.direct_url}/write?db={database}&precision=ms"
        with urllib.request.urlopen(url, data=lines.encode(), timeout=20):
            pass

    def pause(self) -> None:
        """Let influxd stand still: it takes connections and answers nothing."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the standstill."""
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill influxd."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def empty(self) -> None:
        """Delete all its data; it must not run."""
        assert self._server is None
        shutil.rmtree(self._data)
        self._data.mkdir()

    def close(self) -> None:
        """End both."""
        self.kill()
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait()
            self._proxy = None


def _quiet(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
