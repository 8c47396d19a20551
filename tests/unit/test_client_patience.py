"""How long a client waits before it tries again: longer each time, never less than asked, no two equally long."""

from storage_client.patience import pause, spread


def test_a_wait_is_never_shorter_and_at_most_a_quarter_longer() -> None:
    waits = [spread(8.0) for _ in range(1000)]
    assert min(waits) >= 8.0
    assert max(waits) <= 10.0


def test_two_clients_do_not_wait_equally_long() -> None:
    assert len({spread(8.0) for _ in range(10)}) == 10


def test_each_wait_is_twice_the_one_before_up_to_the_most() -> None:
    for tries, seconds in enumerate((0.5, 1.0, 2.0, 4.0, 5.0, 5.0), 1):
        assert seconds <= pause(tries, 0.5, 5.0) <= 1.25 * seconds
    assert pause(1_000_000, 0.5, 5.0) <= 6.25
