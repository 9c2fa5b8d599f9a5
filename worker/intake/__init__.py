"""How films come in: the inbox that people write to, archives that nobody may change."""
