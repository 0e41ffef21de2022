from .bench import run_bench
from .results import BenchResult
from .settings import BenchSettings
from .writing import write_result

__all__ = ["BenchResult", "BenchSettings", "run_bench", "write_result"]
