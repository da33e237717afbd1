"""Why a node does not start. Apart from the configuration itself: whoever only tells of it loads no keys."""


class ConfigError(Exception):
    """One sentence for the terminal."""


class UnsafeConfig(ConfigError):
    """The configuration promises a protection that is not there."""
