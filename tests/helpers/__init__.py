"""What the system tests stand on: real daemons, clients and raw peers in processes of their own, events to wait for."""
