"""Two gateways over one Redis: limits hold on both together, what the platform changes there reaches live sessions on
both, and both go on without it."""

import json
import signal
import socket
import struct
from contextlib import ExitStack

import pytest
from client import Client, is_, signed_in
from door import ask, bearer, connect, request
from gateway_process import Credential, Gateway
from issuer import Issuer
from redis_server import CHANGES, Platform, RedisServer, check_documented, needs_redis
from timing import at_once, wait_until

pytestmark = needs_redis

DELAY_MS = 1_000
# Requests of one user in a minute: of the tiers free and premium.
FREE, PREMIUM = 30, 120


class Fleet:
    """Two gateways, their store, and the platform that writes there."""

    def __init__(self, directory, keeps: bool = False):
        self.server = RedisServer(directory / "redis", keeps)
        self.platform, self.issuer = Platform(self.server), Issuer(directory, "alice")
        self.gateways = []
        try:
            for name in ("one", "two"):
                gateway = Gateway(
                    directory / name,
                    **self.server.settings,
                    **self.issuer.settings,
                    server__shards=2,
                    # Fifty clients sign in together on a machine that may be busy.
                    server__auth_timeout="60s",
                    sequencer__delay=f"{DELAY_MS}ms",
                    feed__simulator__rate=200,
                    entitlements__tiers__free__requests_per_minute=FREE,
                    entitlements__tiers__premium__requests_per_minute=PREMIUM,
                )
                self.gateways.append(gateway)
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for gateway in self.gateways:
            gateway.stop()
        self.server.stop()

    def wait_ready(self) -> None:
        wait_until("the store to be up", lambda: all(gateway.page("/readyz")[0] == 200 for gateway in self.gateways))

    def url(self, number: int) -> str:
        return self.gateways[number % 2].url()

    def sessions(self, credential: Credential, held: ExitStack) -> list[Client]:
        """One on each gateway."""
        return [held.enter_context(signed_in(self.url(number), credential)) for number in range(2)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.stop()


# Limits on both together


def test_of_connections_at_once_on_both_exactly_so_many_stay(fleet):
    credential = fleet.platform.user("alice", tier="enterprise", max_connections=7)
    for round in range(3):
        clients = at_once(50, lambda number: Client(fleet.url(number)))
        with ExitStack() as held:
            for client in clients:
                held.callback(client.close)

            def sign_in(number):
                clients[number].send(action="auth", key=credential.key, secret=credential.secret)
                answer = clients[number].until(lambda message: message.get("msg") != "connected")
                return answer.get("code", answer["msg"])

            answers = at_once(50, sign_in)
            assert sorted(answers, key=str) == [406] * 43 + ["authenticated"] * 7, round
            assert len(fleet.platform.connections("alice")) == 7
            # Of one gateway's place that is given back, the other hears.
            left = answers.index("authenticated")
            clients[left].close()
            wait_until("the place to be given back", lambda: len(fleet.platform.connections("alice")) == 6)
            held.enter_context(signed_in(fleet.url(left + 1), credential))
        wait_until("all places to be given back", lambda: not fleet.platform.connections("alice"))


def test_who_leaves_while_signing_in_leaves_no_place_taken(fleet):
    credential = fleet.platform.user("peggy", tier="enterprise", max_connections=5)
    begun = sum(gateway.metric("gateway_sign_ins_total") for gateway in fleet.gateways)

    def come_and_go(number):
        for leaves in range(6):
            with connect(fleet.gateways[number % 2], "127.0.0.1") as connection:
                connection.sendall(request(bearer(credential)))
                # At once, after the first word, or by a reset.
                if leaves % 3 == 1:
                    connection.recv(1)
                if leaves % 3 == 2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    at_once(50, come_and_go)
    assert sum(gateway.metric("gateway_sign_ins_total") for gateway in fleet.gateways) > begun
    wait_until("all places to be given back", lambda: not fleet.platform.connections("peggy"))
    with ExitStack() as held:
        for number in range(5):
            held.enter_context(signed_in(fleet.url(number), credential))
        assert len(fleet.platform.connections("peggy")) == 5


def test_of_upgrades_at_once_on_both_exactly_so_many_are_counted(fleet):
    credential = fleet.platform.user("bob", tier="free", max_connections=100)
    answers = at_once(50, lambda number: ask(fleet.gateways[number % 2], bearer(credential)))
    for answer in answers:
        answer.close()
    assert sorted(answer.status for answer in answers) == [101] * FREE + [429] * (50 - FREE)
    for answer in answers:
        if answer.status == 429:
            limit = {"X_RateLimit_Limit": str(FREE), "X_RateLimit_Remaining": "0"}
            answer.is_refused(429, "RATE_LIMIT_EXCEEDED", "too many requests", **limit)
            assert 1 <= int(answer.headers["Retry-After"]) <= 61
    # Those that sign in by message are counted with them.
    with Client(fleet.url(0)) as client:
        client.send(action="auth", key=credential.key, secret=credential.secret)
        (_, error), code = client.drain()
    assert 0 < error.pop("retry_after") <= 61
    assert (error, code) == ({"T": "error", "code": 429, "msg": "too many requests"}, 3004)


def test_of_requests_at_once_on_both_exactly_so_many_are_done(fleet):
    credential = fleet.platform.user("carol", max_connections=100)
    with ExitStack() as held:
        clients = [held.enter_context(signed_in(fleet.url(number), credential)) for number in range(50)]

        def flood(number):
            for id in range(4):
                clients[number].send(action="unsubscribe", id=id)
            return clients[number].collect(4, is_("subscription", "error"))

        answers = at_once(50, flood)
        assert all([answer["id"] for answer in of_one] == list(range(4)) for of_one in answers)
        refused = [answer for of_one in answers for answer in of_one if answer["T"] == "error"]
        assert len(refused) == 200 - PREMIUM
        for answer in refused:
            assert 0 < answer["retry_after"] <= 61
            assert (answer["code"], answer["msg"]) == (429, "too many requests")


def test_failed_sign_ins_are_counted_on_both(fleet, start):
    strict = [start(**fleet.server.settings, entitlements__sign_ins__attempts_max=10) for _ in range(2)]
    for gateway in strict:
        wait_until("the store to be up", lambda gateway=gateway: gateway.page("/readyz")[0] == 200)
    wrong = "Authorization: Bearer nonsense"
    answers = at_once(50, lambda number: ask(strict[number % 2], wrong, source="127.2.0.1"))
    assert sorted(answer.status for answer in answers) == [401] * 10 + [429] * 40


# Changes reach live sessions


def test_an_upgrade_opens_on_both(fleet):
    credential = fleet.platform.user("dave", version=1, tier="free")
    with ExitStack() as held:
        sessions = fleet.sessions(credential, held)
        for session in sessions:
            session.subscribe(trades=["BTC/USD"])
            session.send(action="subscribe", trades=["*"])
            assert session.until(is_("error"))["code"] == 409
        fleet.platform.put("dave", version=2)
        for session in sessions:
            others = []
            told = session.until(is_("entitlement"), others)
            assert told == {"T": "entitlement", "tier": "premium", "status": "active", "delayed_ms": 0, "version": 2}
            left = session.until(is_("subscription", "error"), others)
            assert left["trades"] == ["BTC/USD"] and "delayed_ms" not in left
            assert session.subscribe(trades=["*"])["trades"] == ["*", "BTC/USD"]


def test_a_downgrade_delays_and_ends_on_both(fleet):
    credential = fleet.platform.user("erin", version=7)
    with ExitStack() as held:
        sessions = fleet.sessions(credential, held)
        for session in sessions:
            session.subscribe(trades=["BTC/USD", "*"], updatedBars=["BTC/USD"])
            session.until(is_("t"))
        fleet.platform.put("erin", version=8, status="cancelled")
        for session in sessions:
            told = session.until(is_("entitlement"))
            assert told == {
                **{"T": "entitlement", "tier": "free", "status": "cancelled", "delayed_ms": DELAY_MS, "version": 8},
                "reason": "the free tier applies while the subscription is cancelled",
            }
            ended = [session.until(is_("error", "subscription")) for _ in range(2)]
            assert sorted((error["code"], error["channel"], error["S"]) for error in ended) == [
                (409, "trades", "*"),
                (409, "updatedBars", "BTC/USD"),
            ]
            for error in ended:
                assert error["msg"] == "insufficient subscription" and error["detail"] and "id" not in error
            left = session.until(is_("error", "subscription"))
            assert (left["trades"], left["updatedBars"], left["delayed_ms"]) == (["BTC/USD"], [], DELAY_MS)
            session.until(is_("t"))


def test_categories_that_are_taken_away_end_what_is_of_them(fleet):
    credential = fleet.platform.user("frank", version=1)
    with ExitStack() as held:
        sessions = fleet.sessions(credential, held)
        for session in sessions:
            session.subscribe(trades=["BTC/USD"], quotes=["ETH/USD"])
        fleet.platform.put("frank", version=2, signal_categories=["equity"])
        for session in sessions:
            session.until(is_("entitlement"))
            ended = [session.until(is_("error", "subscription")) for _ in range(2)]
            assert sorted((error["code"], error["channel"], error["S"]) for error in ended) == [
                (411, "quotes", "ETH/USD"),
                (411, "trades", "BTC/USD"),
            ]
            left = session.until(is_("error", "subscription"))
            assert (left["T"], left["trades"], left["quotes"]) == ("subscription", [], [])


def test_a_record_in_a_hash_is_as_good(fleet):
    redis = fleet.platform.redis
    fields = {"tier": "free", "status": "active", "signal_categories": "crypto,equity", "version": 1, "plan": "x"}
    redis.hset("entitlement:{grace}", mapping=fields)
    with ExitStack() as held:
        sessions = fleet.sessions(fleet.platform.key("grace"), held)
        for version, (tier, delayed_ms) in enumerate((("premium", 0), ("free", DELAY_MS), ("enterprise", 0)), start=2):
            fleet.platform.put_hash("grace", tier=tier, version=version)
            for session in sessions:
                told = session.until(is_("entitlement"))
                assert (told["tier"], told["delayed_ms"], told["version"]) == (tier, delayed_ms, version)
        # And what nobody announces is found.
        redis.hset("entitlement:{grace}", mapping={"real_time_access": "false", "version": 9})
        for session in sessions:
            assert session.until(is_("entitlement"))["version"] == 9


NONSENSE = (
    "",
    "{",
    "[]",
    "null",
    "7",
    "nobody",
    '{"user_id":"heidi","version":99}',
    '{"user_id":7}',
    '{"version":9}',
    "\0",
)
DATA = {"t", "q", "b", "u", "d", "heartbeat", "feed"}


def test_what_is_older_changes_nothing(fleet):
    platform = fleet.platform
    credential = platform.user("heidi", version=5)
    with ExitStack() as held:
        sessions = fleet.sessions(credential, held)
        for session in sessions:
            session.subscribe(trades=["BTC/USD"])
        # Late, twice, of others, of nobody, and nothing at all.
        platform.redis.publish(CHANGES, platform.record("heidi", 4, tier="free"))
        platform.redis.publish(CHANGES, platform.record("heidi", 1, status="blocked"))
        platform.redis.publish(CHANGES, platform.record("heidi", 5))
        platform.put("ivan", version=9, status="blocked")
        for nonsense in (*NONSENSE, "a" * 100_000):
            platform.redis.publish(CHANGES, nonsense)
        # One that came too late to the store as well, and that nobody announces.
        platform.redis.set("entitlement:{heidi}", platform.record("heidi", 3, tier="free"))
        platform.redis.publish(CHANGES, "heidi")
        # Announcements are taken in order: with this one heard, those before it are over.
        platform.redis.publish(CHANGES, platform.record("heidi", 6, tier="enterprise"))
        for session in sessions:
            others = []
            told = session.until(is_("entitlement", "error"), others)
            assert (told["T"], told["tier"], told["version"]) == ("entitlement", "enterprise", 6)
            assert {message["T"] for message in others} <= DATA
            assert "delayed_ms" not in session.subscribe(quotes=["BTC/USD"])


def test_who_is_blocked_or_removed_is_cut_on_both(fleet):
    platform = fleet.platform
    for user, cut in (
        ("judy", lambda: platform.put("judy", version=2, status="blocked")),
        ("kim", lambda: (platform.redis.delete("entitlement:{kim}"), platform.redis.publish(CHANGES, "kim"))),
    ):
        credential = platform.user(user)
        with ExitStack() as held:
            sessions = fleet.sessions(credential, held)
            for session in sessions:
                session.subscribe(trades=["BTC/USD"])
            cut()
            for session in sessions:
                messages, code = session.drain()
                assert code == 3504 and not [message for message in messages if message["T"] == "error"]
        for gateway in fleet.gateways:
            ask(gateway, bearer(credential)).is_refused(401, "INVALID_TOKEN")
        wait_until("the sessions to be taken back", lambda user=user: not platform.connections(user))


def test_an_address_that_is_blocked_is_cut_on_both(fleet):
    platform, credential = fleet.platform, fleet.platform.user("liam")
    with ExitStack() as held:
        cut, stay = (
            [
                held.enter_context(signed_in(fleet.url(number), credential, source_address=(source, 0)))
                for number in range(2)
            ]
            for source in ("127.3.0.7", "127.4.0.7")
        )
        platform.block("127.3.0.0/16", "abuse")
        for session in cut:
            assert session.drain() == ([], 3505)
        for gateway in fleet.gateways:
            ask(gateway, bearer(credential), source="127.3.9.9").is_refused(403, "IP_BLOCKED")
        for session in stay:
            session.subscribe(trades=["BTC/USD"])
        platform.unblock("127.3.0.0/16")
        for gateway in fleet.gateways:
            wait_until("the block to end", lambda gateway=gateway: status(gateway, credential, "127.3.9.9") == 101)


def status(gateway: Gateway, credential: Credential, source: str = "127.0.0.1") -> int:
    answer = ask(gateway, bearer(credential), source=source)
    answer.close()
    return answer.status


def test_a_token_that_is_denied_is_cut_on_both(fleet):
    fleet.platform.put("olivia")
    denied, other = (fleet.issuer.token("ec", sub="olivia", jti=jti) for jti in ("denied", "other"))
    with ExitStack() as held:
        cut, stay = (
            [held.enter_context(Client(f"{fleet.url(number)}?token={token}")) for number in range(2)]
            for token in (denied, other)
        )
        for client in (*cut, *stay):
            client.until(lambda message: message.get("msg") == "authenticated")
        fleet.platform.deny(denied)
        for client in cut:
            assert client.drain() == ([], 3504)
        for client in stay:
            client.subscribe(trades=["BTC/USD"])


def test_a_key_that_is_taken_out_is_cut_on_both(fleet):
    lost, kept = fleet.platform.user("trent"), fleet.platform.key("trent")
    with ExitStack() as held:
        cut, stay = fleet.sessions(lost, held), fleet.sessions(kept, held)
        fleet.platform.take_out(lost)
        for session in cut:
            assert session.drain() == ([], 3504)
        for session in stay:
            session.subscribe(trades=["BTC/USD"])
    for gateway in fleet.gateways:
        ask(gateway, bearer(lost)).is_refused(401, "INVALID_TOKEN")


# What is there


def test_a_session_is_described_while_it_lives(fleet):
    credential = fleet.platform.user("mia", tier="enterprise")
    redis = fleet.platform.redis
    with signed_in(fleet.url(0), credential, source_address=("127.5.0.1", 0), user_agent_header="tests/1"):
        [session] = fleet.platform.connections("mia")
        wait_until("the description", lambda: redis.ttl(f"session:{session}") > 0)
        described = redis.hgetall(f"session:{session}")
        assert described.pop("last_activity").isdecimal()
        assert described == {"user_id": "mia", "roles": "enterprise", "address": "127.5.0.1", "user_agent": "tests/1"}
        assert 86_000 < redis.ttl(f"session:{session}") <= 86_400
        assert redis.sismember("active_users", "mia")
        check_documented(fleet.server)
    wait_until("all to be taken back", lambda: not redis.exists(f"session:{session}"))
    assert not redis.sismember("active_users", "mia") and not fleet.platform.connections("mia")


def test_of_a_gateway_that_is_killed_the_sessions_are_taken_back(fleet, start):
    credential = fleet.platform.user("nina", max_connections=2)
    lost = start(**fleet.server.settings, entitlements__redis__lease="2s")
    wait_until("the store to be up", lambda: lost.page("/readyz")[0] == 200)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(signed_in(lost.url(), credential))
        with Client(fleet.url(0)) as client:
            client.send(action="auth", key=credential.key, secret=credential.secret)
            assert client.drain()[1] == 3502
        Gateway.running.remove(lost)
        lost.signal(signal.SIGKILL)
        lost.process.wait()
        lost.process.stdout.close()
    wait_until("its sessions to be taken back", lambda: not fleet.platform.connections("nina"))
    signed_in(fleet.url(0), credential).close()


def test_every_key_is_a_documented_one(fleet):
    redis = fleet.platform.redis
    wait_until("all sessions to end", lambda: not fleet.server.has_sessions())
    check_documented(fleet.server)
    names = fleet.server.names()
    assert not [name for name in names if name.startswith(("session:", "websocket:", "gateway:sessions:"))]
    assert {"gateway:nodes", "entitlement:{alice}"} < names
    assert redis.zcard("gateway:nodes") == 2


# Without it


@pytest.mark.parametrize("keeps", [True, False], ids=["with its data", "with nothing"])
def test_sessions_live_on_while_redis_is_away_and_when_it_is_back(tmp_path, keeps):
    fleet = Fleet(tmp_path, keeps)
    platform, gateways = fleet.platform, fleet.gateways
    try:
        credential = platform.user("alice", version=3, max_connections=4)
        with ExitStack() as held:
            sessions = fleet.sessions(credential, held)
            for session in sessions:
                session.subscribe(trades=["BTC/USD"])
            platform.block("127.3.0.0/16", "abuse")
            for gateway in gateways:
                wait_until("the block", lambda gateway=gateway: status(gateway, credential, "127.3.0.1") == 403)
            wait_until("the others to be gone", lambda: len(platform.connections("alice")) == 2)
            fleet.server.kill()

            for gateway in gateways:
                wait_until("the gateway to notice", lambda gateway=gateway: gateway.page("/readyz")[0] == 503)
                told = json.loads(gateway.page("/readyz")[1])
                [reason] = told["reasons"]
                assert (told["ready"], reason["check"]) == (False, "entitlements")
                assert "the store is away" in reason["reason"]
                assert gateway.page("/livez")[0] == 200
                # Nobody new comes in, and who is blocked stays so.
                ask(gateway, bearer(credential)).is_refused(503, "UNAVAILABLE", Retry_After="1")
                ask(gateway, source="127.3.0.1").is_refused(403, "IP_BLOCKED")
                with Client(gateway.url()) as client:
                    client.send(action="auth", key=credential.key, secret=credential.secret)
                    messages, code = client.drain()
                error = {"T": "error", "code": 503, "msg": "temporarily unavailable", "retry_after": 1}
                assert (messages[-1], code) == (error, 3003)
            for session in sessions:
                session.subscribe(quotes=["BTC/USD"])
                session.collect(3, is_("t"))

            fleet.server.start()
            fleet.wait_ready()
            # They are registered anew, and as they were; that there is no record takes nobody's rights.
            assert len(platform.connections("alice")) == 2
            assert platform.redis.exists("entitlement:{alice}") == keeps
            check_documented(fleet.server)
            for session in sessions:
                session.subscribe(bars=["BTC/USD"], updatedBars=["BTC/USD"])
            ask(gateways[0], source="127.3.0.1").is_refused(403, "IP_BLOCKED")
            credential = platform.user("alice", version=4, max_connections=4, tier="enterprise")
            for session in sessions:
                assert session.until(is_("entitlement"))["version"] == 4
            more = fleet.sessions(credential, held)
            with Client(fleet.url(0)) as client:
                client.send(action="auth", key=credential.key, secret=credential.secret)
                assert client.drain()[1] == 3502
            more[0].close()
            wait_until("the place to be given back", lambda: len(platform.connections("alice")) == 3)
    finally:
        fleet.stop()
