"""What a run leaves behind: logs, predictions files and images."""
