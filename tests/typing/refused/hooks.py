"""Wrong signatures of hooks."""

from collections.abc import Sequence

import kart_core as kart
from kart_core.plugin import Event, Serializer, Storage


class WrongArgument(kart.Plugin):
    @kart.hookimpl
    def kart_serializers(self, suffix: str) -> list[Serializer]:  # refused: an argument too many
        return []

    @kart.hookimpl
    def kart_event(self, event: str) -> None:  # refused: wrong type of an argument
        pass


class WrongRecord(kart.Plugin):
    @kart.hookimpl
    def kart_serializers(self) -> Sequence[Storage]:  # refused: wrong records
        return ()

    @kart.hookimpl
    def kart_storages(self) -> Storage:  # refused: one record where a sequence is expected
        raise NotImplementedError


class NoArgument(kart.Plugin):
    @kart.hookimpl
    def kart_event(self) -> None:  # refused: an argument too few
        pass


class WrongSettings(kart.Plugin, settings=3):  # refused: settings are a class
    pass


Event("run_begun", run="r", time=0.0)  # refused: no such kind
Serializer("upper", dump=print)  # refused: a record without one of its fields
Storage("scratch", open=len)  # refused: does not open a store
