"""The Battle Navale rules and their replay."""
