"""The simulated market driven step by step, without tasks."""

from __future__ import annotations

from typing import Any

from hub.trading.market.desk import MarketDesk
from hub.trading.market.simulator import SIMULATED, SimulatedMarket
from hub.trading.outgoing import Outgoing

START_US = 1_700_000_000_000_000
STEP_US = 100_000


class Simulation:
    """What a feed of simulated sources would publish, each connected again as soon as its venue can be reached."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.market = SimulatedMarket(seed, start_us=START_US, **options)
        self.desk = MarketDesk(marks=SIMULATED)
        self._connected = dict.fromkeys((venue.name for venue in self.market.venues), False)
        for venue in self.market.venues:
            self.desk.join(venue.name, role=venue.role, symbols=self.market.symbols, now_us=START_US)

    def step(self, now_us: int) -> list[Outgoing]:
        self.market.step(now_us)
        for venue, connected in self._connected.items():
            if not self.market.reachable(venue):
                self.desk.lost(venue, now_us, "connection lost")
                self._connected[venue] = False
                continue
            if not connected:
                self.desk.connected(venue, now_us)
                self._connected[venue] = True
                for event in self.market.greet(venue):
                    self.desk.take(venue, event, now_us)
            for event in self.market.arrived(venue):
                self.desk.take(venue, event, now_us)
        for venue, symbol in self.desk.resyncs(now_us):
            self.market.resync(venue, symbol)
        return self.desk.drain(now_us)


def simulated(seed: int, seconds: int, **options: Any) -> list[Outgoing]:
    simulation = Simulation(seed, **options)
    return [each for n in range(seconds * 10) for each in simulation.step(START_US + n * STEP_US)]
