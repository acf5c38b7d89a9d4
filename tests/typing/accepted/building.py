"""What a build, a plan and the records give."""

from newcomer import Numbers, Total
from typing_extensions import assert_type, reveal_type

import kart_core as kart

numbers = Numbers(n=3)
total = Total(numbers=numbers)

assert_type(kart.build(total), int)
assert_type(kart.build(total, workspace_directory="memory://here", rerun=True), int)
assert_type(kart.build(numbers, total), tuple[list[int], int])
assert_type(kart.build(total, total, total), tuple[int, ...])
kart.build(total, return_value=False)
kart.build(*[Numbers(n=i) for i in range(10)], return_value=False)

assert_type(total.clone(), Total)
assert_type(total.clone(numbers=Numbers(n=4)), Total)
assert_type(total.clone(Numbers, n=4), Numbers)
assert_type(Total.restore("0" * 32), Total)
assert_type(total.complete(), bool)
assert_type(total.load(numbers), list[int])

reveal_type(kart.plan(total))
reveal_type(kart.record(total))
reveal_type(kart.results(Total))
assert_type(kart.record(total).unique_id, str)

try:
    kart.build(total)
except kart.BuildError as error:
    for task, fault in error.failures.items():
        assert_type(fault, BaseException)
        print(task.unique_id)
except kart.KartError:
    raise
