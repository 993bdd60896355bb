"""What every method, relation, source, task and protocol must do, as checks: for packages of others, and for
the tests of this one, which run the same.

    from sempairs.testing import check_method
    check_method("my_method")          # raises AssertionError where it breaks the contract

Each `check_…` takes what was registered by its name and runs all checks of its kind. To see each by itself,
give pytest the list: `@pytest.mark.parametrize("check", METHOD_CHECKS)`.
"""

from sempairs.testing.methods import METHOD_CHECKS, check_method
from sempairs.testing.protocols import PROTOCOL_CHECKS, check_protocol, made_up_context
from sempairs.testing.relations import RELATION_CHECKS, check_relation, made_up_catalog
from sempairs.testing.sources import check_source
from sempairs.testing.tasks import check_task

__all__ = [
    "METHOD_CHECKS",
    "PROTOCOL_CHECKS",
    "RELATION_CHECKS",
    "check_method",
    "check_protocol",
    "check_relation",
    "check_source",
    "check_task",
    "made_up_catalog",
    "made_up_context",
]
