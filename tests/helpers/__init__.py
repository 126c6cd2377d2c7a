"""What the system tests stand on: real daemons, clients and raw peers in their own processes, and events to wait for."""
