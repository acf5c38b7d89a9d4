"""Of many processes that create, replace or remove one file, one does."""

from __future__ import annotations

import json

import pytest
from proxy import Proxy
from racers import PROCESSES, Meet, Racers
from servers import Server
from test_store import open_store

ROUNDS = 50


@pytest.fixture(params=["seaweed", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


def _create(url: str, endpoint: str, number: int, meet: Meet) -> list[bool]:
    store = open_store(Server(endpoint, "kart"), url)
    store.stat("ready")
    meet()
    return [store.create(f"race/{race}", f"{number}".encode()) for race in range(ROUNDS)]


def _replace(url: str, endpoint: str, number: int, meet: Meet) -> list[bool]:
    store = open_store(Server(endpoint, "kart"), url)
    marks = json.loads(store.read("marks"))
    meet()
    return [store.replace(f"race/{race}", f"{number}".encode(), marks[race]) is not None for race in range(ROUNDS)]


@pytest.mark.usefixtures("credentials")
def test_of_eight_processes_that_create_one_wins_each_round(server: Server, racers: Racers) -> None:
    url = server.new_url()
    won = racers.race(_create, url, server.endpoint)
    for race in range(ROUNDS):
        winners = [number for number in range(PROCESSES) if won[number][race]]
        assert len(winners) == 1
        assert server.get(url, f"race/{race}") == str(winners[0]).encode()


@pytest.mark.usefixtures("credentials")
def test_of_eight_processes_that_replace_what_is_unchanged_one_wins_each_round(server: Server, racers: Racers) -> None:
    url = server.new_url()
    for race in range(ROUNDS):
        server.put(url, f"race/{race}", b"before")
    store = open_store(server, url)
    server.put(url, "marks", json.dumps([store.stat(f"race/{race}").mark for race in range(ROUNDS)]).encode())
    won = racers.race(_replace, url, server.endpoint)
    for race in range(ROUNDS):
        winners = [number for number in range(PROCESSES) if won[number][race]]
        assert len(winners) == 1
        assert server.get(url, f"race/{race}") == str(winners[0]).encode()


@pytest.mark.usefixtures("credentials")
def test_what_was_replaced_meanwhile_is_neither_replaced_nor_removed(server: Server) -> None:
    url = server.new_url()
    store = open_store(server, url)
    store.put("a", b"mine")
    mark = store.stat("a").mark
    server.put(url, "a", b"theirs")
    assert store.replace("a", b"mine again", mark) is None
    assert store.remove_unchanged("a", mark) is False
    assert server.get(url, "a") == b"theirs"
    mark = store.replace("a", b"mine at last", store.stat("a").mark)
    assert mark == store.stat("a").mark
    assert store.remove_unchanged("a", mark) is True
    assert store.replace("a", b"gone", mark) is None
    assert server.get(url, "a") is None


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("fate", ["before", "answer"])
def test_a_lost_answer_makes_no_loser_of_the_winner(seaweed: Server, proxy: Proxy, fate: str) -> None:
    store = open_store(Server(proxy.endpoint, "kart"), url := seaweed.new_url())
    store.put("warm", b"")
    _once(proxy, "PUT", fate)
    assert store.create("lease", b"mine") is True
    mark = store.stat("lease").mark
    _once(proxy, "PUT", fate)
    mark = store.replace("lease", b"still mine", mark)
    assert mark is not None
    _once(proxy, "DELETE", fate)
    store.remove_unchanged("lease", mark)
    assert seaweed.keys(url) == ["warm"]


@pytest.mark.usefixtures("credentials")
def test_a_lost_answer_makes_no_winner_of_a_loser(seaweed: Server, proxy: Proxy) -> None:
    store = open_store(Server(proxy.endpoint, "kart"), url := seaweed.new_url())
    seaweed.put(url, "lease", b"mine")
    store.stat("lease")
    _once(proxy, "PUT", "answer")
    assert store.create("lease", b"mine") is False, "the same content, and yet another's"


def _once(proxy: Proxy, kind: str, fate: str) -> None:
    left = [fate]
    proxy.breaks = lambda request: left.pop() if request.kind == kind and left else None


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("content", [b"", b"\0", b"\n--==0==--", b"x" * 70_000 + b"\r\n--==0==--\r\n" + b"y" * 9])
def test_every_content_comes_back_whole(server: Server, content: bytes) -> None:
    url = server.new_url()
    store = open_store(server, url)
    store.put("a", content)
    assert store.create("b", content) is True
    assert (store.read("a"), store.read("b"), server.get(url, "a")) == (content, content, content)
    with store.open("b") as file:
        assert file.read() == content
