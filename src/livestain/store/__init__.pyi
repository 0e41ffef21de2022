from .channels import Channel, Channels
from .closing import finalise, settle
from .compact import Compacted, compact_store
from .create import check_place, create_store
from .encoding import decode, encode
from .export_tiff import Exported, export_tiff
from .future import WriteFuture
from .journal import Journal, journal_lines, journal_path, read_journal
from .labels import Labels
from .lock import StoreLock, lock_path
from .plan import (
    ChannelPlan,
    CorrectionPlan,
    PlannedBlock,
    PositionPlan,
    RecordingPlan,
    StorePlan,
    TruthPlan,
    VirtualPlan,
    WindowPlan,
    blocks_of,
    places_of,
)
from .pyramid import halve, level_shapes
from .statistics import ChannelStatistics, channel_statistics
from .status import STOPPED, PlaneCounts, StoreStatus, last_words, store_status
from .store import Store, open_store

__all__ = [
    "STOPPED",
    "Channel",
    "ChannelPlan",
    "ChannelStatistics",
    "Channels",
    "Compacted",
    "CorrectionPlan",
    "Exported",
    "Journal",
    "Labels",
    "PlaneCounts",
    "PlannedBlock",
    "PositionPlan",
    "RecordingPlan",
    "Store",
    "StoreLock",
    "StorePlan",
    "StoreStatus",
    "TruthPlan",
    "VirtualPlan",
    "WindowPlan",
    "WriteFuture",
    "blocks_of",
    "channel_statistics",
    "check_place",
    "compact_store",
    "create_store",
    "decode",
    "encode",
    "export_tiff",
    "finalise",
    "halve",
    "journal_lines",
    "journal_path",
    "last_words",
    "level_shapes",
    "lock_path",
    "open_store",
    "places_of",
    "read_journal",
    "settle",
    "store_status",
]
