"""The store keeps what every store promises, on a real server and on a fake one."""

from __future__ import annotations

import gc
import weakref

import pytest
from kart_s3 import S3, S3Settings
from servers import Server

from kart_core.plugin import Store
from kart_core.testing.stores import StoreContract


def open_store(server: Server, url: str, **settings: object) -> Store:
    plugin = S3(S3Settings(endpoint_url=server.endpoint, **settings))  # type: ignore[arg-type]
    return plugin.kart_storages()[0].open(url)


class _Contract(StoreContract):
    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    @pytest.fixture
    def store(self, server: Server, credentials: None) -> Store:
        self.server_, self.url = server, server.new_url()
        return open_store(server, self.url)

    def plant(self, path: str, data: bytes) -> None:
        self.server_.put(self.url, path, data)

    def found(self, path: str) -> bytes | None:
        return self.server_.get(self.url, path)


class TestOnSeaweedFS(_Contract):
    @pytest.fixture
    def server(self, seaweed: Server) -> Server:
        return seaweed

    @pytest.mark.slow  # two seconds a round here; the processes of test_exclusive.py race for the same
    def test_create_has_one_winner_whose_content_stands(self, store: Store) -> None:
        super().test_create_has_one_winner_whose_content_stands(store)

    @pytest.mark.slow  # the same
    def test_of_many_who_replace_what_they_saw_one_does(self, store: Store) -> None:
        super().test_of_many_who_replace_what_they_saw_one_does(store)


class TestOnMoto(_Contract):
    @pytest.fixture
    def server(self, moto: Server) -> Server:
        return moto


def test_a_store_that_nobody_holds_any_more_gives_its_client_back(moto: Server, credentials: None) -> None:
    store = open_store(moto, moto.new_url())
    store.stat("a")
    client = weakref.ref(store.client.client)  # type: ignore[attr-defined]
    del store
    gc.collect()
    assert client() is None
