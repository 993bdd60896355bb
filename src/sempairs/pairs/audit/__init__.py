"""Audits of sets of pairs: what is in them, what is wrong with them, and how often."""

from sempairs.pairs.audit.gate import MEASURES, Rule, broken_rules, parse_rule
from sempairs.pairs.audit.report import write_audit
from sempairs.pairs.audit.run import Audit, audit

__all__ = ["MEASURES", "Audit", "Rule", "audit", "broken_rules", "parse_rule", "write_audit"]
