"""Why there is no answer."""


class Impossible(Exception):
    """An answer that can never be made; the text says why, without anything of the patient."""
