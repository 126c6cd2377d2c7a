"""The wire: what a message is, how it is encoded, bounded and moved. Imports nothing else of TaskMaster."""
