"""The doors: WebSocket and REST. They translate, and speak only to dispatch and authentication."""
