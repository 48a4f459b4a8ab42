"""How the parts of an emulated potentiostat say no: an error code of the vendor's table."""


class Refusal(Exception):
    """The instrument cannot do what a statement asks for.

    Args:
        code: The vendor's error code, e.g. 0x000F for a potential that is not valid.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"!{code:04X}")
        self.code = code
