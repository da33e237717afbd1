"""What was recorded, played at its own pace or any other."""

from __future__ import annotations

from hub.clock import Clock


class Pace:
    """Maps recorded time to ours. Waits for a moment, not for a distance, so that delays do not add up.

    `speed` 1 is the recorded pace, 10 ten times that, 0 no pauses.
    """

    def __init__(self, speed: float, clock: Clock) -> None:
        self._speed = speed
        self._clock = clock
        self._start: tuple[int, float] | None = None  # (recorded microseconds, monotonic seconds)

    async def until(self, recorded_us: int) -> None:
        """The first call says when the recording begins."""
        if not self._speed:
            return
        if self._start is None:
            self._start = (recorded_us, self._clock.monotonic())
        first_us, started = self._start
        wait = started + (recorded_us - first_us) / 1e6 / self._speed - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)
