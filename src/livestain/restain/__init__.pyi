from .report import RestainReport
from .staining import restain
from .verifying import ChannelVerdict, VerifyReport, verify_staining

__all__ = ["ChannelVerdict", "RestainReport", "VerifyReport", "restain", "verify_staining"]
