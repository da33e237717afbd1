"""Agent2Agent 1.0 over JSON-RPC, written by hand: another agent finds the hub by its card and gives it tasks."""
