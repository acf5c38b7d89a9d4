"""A plugin of every hook."""

import io
import random
from typing import BinaryIO

import attrs
from newcomer import Total
from typing_extensions import assert_type, override

import kart_core as kart
from kart_core.builtin.executors import InlineExecutor
from kart_core.builtin.fsspec_store import FsspecStore
from kart_core.plugin import Event, Executor, Hasher, Seeder, Serializer, Storage, Store


@attrs.frozen
class ShoutSettings:
    volume: int = attrs.field(default=1, metadata={"help": "how loud"})
    key: kart.Secret | None = None


class Shout(kart.Plugin, settings=ShoutSettings):
    settings: ShoutSettings

    @override
    @kart.hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("scratch", open=self.open, shared="process", exclusive=False)]

    @kart.hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("upper", dump=self.dump, load=self.load, types=("builtins:str",))]

    @kart.hookimpl
    def kart_hashers(self) -> tuple[Hasher, ...]:
        return (Hasher("fractions.Fraction", encode=lambda value: str(value).encode()),)

    @kart.hookimpl
    def kart_seeders(self) -> list[Seeder]:
        return [Seeder("own.seed", module="random", seed=random.seed, save=random.getstate, restore=random.setstate)]

    @kart.hookimpl
    def kart_executors(self) -> list[Executor]:
        return [Executor("here", open=lambda workers: InlineExecutor(), in_process=True)]

    @kart.hookimpl
    def kart_event(self, event: Event) -> None:
        assert_type(event.task, str | None)

    def open(self, url: str) -> Store:
        assert_type(self.settings.volume, int)
        return FsspecStore(url)

    def dump(self, value: str, file: BinaryIO) -> None:
        file.write(value.upper().encode())

    def load(self, file: BinaryIO) -> str:
        return file.read().decode()


Shout(ShoutSettings(volume=3)).dump("a", io.BytesIO())
kart.build(Total(numbers=Total.restore("0" * 32).numbers), plugins=[Shout])
