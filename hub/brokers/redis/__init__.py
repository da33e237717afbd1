"""The broker over Redis: many nodes, one order per channel, on one server or on a cluster of them.

    broker      the contract, and which server is asked for which channel
    slots       which servers there are: one, or a Redis Cluster whose slots may move
    server      one server: listening, reading, a probe that notices when it no longer answers
    publishing  its pipeline of what is published
    mirror      what this node knows of the channels it listens to
    payloads    how publications travel
    seals       why what arrives can be believed

Publishing: what arrives while one round trip is under way travels in the next. A script takes the offset, keeps the
history and publishes, so history and delivery cannot disagree.
"""

from hub.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
