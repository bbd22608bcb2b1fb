"""What a lowered program multiplies."""

import re
from collections import Counter

PRODUCT = (r"stablehlo\.dot_general .*: \(tensor<[\dx]*x(\w+)>, tensor<[\dx]*x(\w+)>\) -> "
           r"tensor<[\dx]*x(\w+)>")


def products_of(text: str) -> Counter[tuple[str, ...]]:
    """How many products have operands and a result of these types, as `("i8", "i8", "i32")`."""
    return Counter(re.findall(PRODUCT, text))
