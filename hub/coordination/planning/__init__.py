"""Who should do what, when, and what comes next: decisions as functions of their arguments. Only the service awaits."""
