"""uvicorn extensions: connection timeouts and several processes on one port."""
