"""What travels between the bot, the stages and the service."""
