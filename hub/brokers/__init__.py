"""How publications reach every node. One contract, `base.Broker`; only `bootstrap` names an implementation."""
