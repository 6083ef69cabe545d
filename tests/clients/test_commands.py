"""The commands around a running gateway: tokens, checks, wrong usage, and what the greeting tells to paste."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from client import Client, is_, signed_in
from gateway_process import WAIT_S, Credential, command

USAGE = 64


# Tokens and keys


def test_a_token_is_printed_and_nothing_else(start, tmp_path):
    gateway = start(directory=tmp_path)
    for user in ("demo-free", "demo-premium", "demo-enterprise"):
        printed = command(tmp_path, "token", "--user", user, "--ttl", "1h")
        assert (printed.returncode, printed.stderr) == (0, "")
        assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", printed.stdout)
        with Client(f"{gateway.url()}?token={printed.stdout.strip()}") as client:
            assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == user


def test_a_session_ends_with_its_token(start, tmp_path):
    # Long enough that a busy machine has signed in by then.
    gateway = start(directory=tmp_path, entitlements__leeway="0s")
    token = command(tmp_path, "token", "--user", "demo-premium", "--ttl", "4s").stdout.strip()
    with Client(f"{gateway.url()}?token={token}") as client:
        messages, code = client.drain()
    assert messages[-1] == {"T": "error", "code": 430, "msg": "token expired"}
    assert code == 3503


def test_no_token_for_nobody(tmp_path):
    refused = command(tmp_path, "token", "--user", "nobody")
    assert refused.returncode != 0 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and "nobody" in refused.stderr


def test_the_demo_users_keep_their_keys_over_a_restart(start, tmp_path):
    before = start(directory=tmp_path)
    before.stop()
    after = start(directory=tmp_path)
    keys = [{user: (c.key, c.secret) for user, c in gateway.users.items()} for gateway in (before, after)]
    assert keys[0] == keys[1] and len(keys[0]) == 3
    # The tokens of the first run too.
    with Client(f"{after.url()}?token={before.premium.token}") as client:
        assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == "demo-premium"
    elsewhere = start()
    assert not {c.secret for c in elsewhere.users.values()} & {c.secret for c in after.users.values()}


def test_a_key_that_was_made_opens_and_a_reload_shuts(start, tmp_path):
    made = command(tmp_path, "key", "--user", "alice")
    key, secret = (re.search(rf"^# {name} +(\S+)$", made.stdout, re.M)[1] for name in ("key", "secret"))
    users = tmp_path / "users.toml"
    alice = '[[users]]\nid = "alice"\ntier = "premium"\nstatus = "active"\ncategories = ["crypto"]\n'
    users.write_text(alice + made.stdout)
    gateway = start(entitlements__users=users)
    assert gateway.users == {}, "no demo users beside real ones"
    with signed_in(gateway.url(), Credential("alice", key, secret, "")) as client:
        client.subscribe(trades=["BTC/USD"])
        client.until(is_("t"))
        users.write_text(alice.replace('"active"', '"blocked"') + made.stdout)
        gateway.signal(signal.SIGHUP)
        _, code = client.drain()
    assert code == 3504


# Checks and wrong usage


def test_what_is_in_effect_is_printed(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("[feed.simulator]\nrate = 7.5\n")
    checked = command(tmp_path, "check-config", "--config", file, feed__simulator__seed=42)
    assert (checked.returncode, checked.stderr) == (0, "")
    effective = tomllib.loads(checked.stdout)
    assert effective["feed"]["simulator"]["rate"] == 7.5
    assert effective["feed"]["simulator"]["seed"] == 42
    assert effective["server"]["listen"] == ["127.0.0.1:0"]
    assert effective["session"]["heartbeat"] == "15s"
    # What it prints is a configuration, and says the same again.
    file.write_text(checked.stdout)
    assert command(tmp_path, "check-config", "--config", file).stdout == checked.stdout


def test_the_example_is_the_defaults(tmp_path):
    example = Path(__file__).resolve().parents[2] / "gateway.example.toml"
    with_it = command(tmp_path, "check-config", "--config", example)
    without = command(tmp_path, "check-config")
    assert with_it.returncode == 0 and with_it.stdout == without.stdout


@pytest.mark.parametrize("arguments", [["check-config"], []], ids=["check-config", "run"])
@pytest.mark.parametrize(
    "file, settings, named",
    [
        ("[server]\nlissten = []\n", {}, "server.lissten"),
        ("[session]\nheartbeat = 15\n", {}, "session.heartbeat"),
        ('[log]\nlevel = "loud"\n', {}, "log.level"),
        ("", {"server__listen": "localhost"}, "server.listen"),
        ("", {"feed__simulator__rate": "-1"}, "feed.simulator.rate"),
        ("", {"nonsense": "1"}, "nonsense"),
        ("", {"entitlements__users": "/nonexistent/users.toml"}, "entitlements.users"),
        ("", {"feed__kind": "replay", "feed__replay__file": "/nonexistent/capture"}, "feed.replay.file"),
        ("[server\n", {}, "gateway.toml"),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else None,
)
def test_a_wrong_configuration_is_one_line_with_its_key(tmp_path, arguments, file, settings, named):
    config = tmp_path / "gateway.toml"
    config.write_text(file)
    check_refused(command(tmp_path, *arguments, "--config", config, **settings), named)


@pytest.mark.parametrize(
    "content, told",
    [(None, "No such file"), ("", "empty"), ('{"type":"heartbeat"}\n{"type":"mat', "line 2")],
    ids=["missing", "empty", "cut"],
)
def test_a_bad_capture_is_one_line(tmp_path, content, told):
    capture = tmp_path / "capture.jsonl"
    if content is not None:
        capture.write_text(content)
    refused = command(tmp_path, "--replay", capture)
    check_refused(refused, "capture.jsonl")
    assert told in refused.stderr


def test_a_port_in_use_is_one_line_with_its_key(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key in ("server", "admin"):
            refused = command(tmp_path, **{f"{key}__listen": address})
            check_refused(refused, f"{key}.listen")
            assert address in refused.stderr


def check_refused(refused, named):
    """One clear line, the exit status for wrong usage, and nothing that was started."""
    assert refused.returncode == USAGE, refused
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and refused.stderr.startswith("gateway: "), refused.stderr
    assert named in refused.stderr


# The greeting


def test_the_greetings_websockets_client_shows_ticks(gateway):
    lines = pasted(gateway, "from websockets.sync.client import connect", 8)
    assert lines[0] == '[{"T":"success","msg":"connected"}]\n'
    assert '"msg":"authenticated"' in lines[1]
    assert any('"T":"t"' in line or '"T":"q"' in line for line in lines[2:])


def test_the_greetings_alpaca_client_shows_trades(gateway):
    for line in pasted(gateway, "from alpaca.data.live import CryptoDataStream", 3):
        assert line.startswith("symbol='BTC/USD' timestamp=datetime.datetime(")


def pasted(gateway, like, count, before=":"):
    """The first lines that a command of the greeting prints, pasted into a shell that finds this Python, behind
    another command."""
    commands = re.findall(r"^ *(python3 - <<'END'\n.*?^END)$", gateway.greeting, re.M | re.S)
    [text] = [text for text in commands if like in text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    shell = subprocess.Popen(
        ["sh", "-c", f"{before}\n{text}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return first_lines(shell.stdout.fileno(), count)
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        shell.stdout.close()


def first_lines(output, count):
    text, deadline = "", time.monotonic() + WAIT_S
    while text.count("\n") < count:
        ready, _, _ = select.select([output], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"only {text!r} within {WAIT_S} s"
        read = os.read(output, 65_536)
        assert read, f"ended after {text!r}"
        text += read.decode()
    return text.splitlines(keepends=True)[:count]
