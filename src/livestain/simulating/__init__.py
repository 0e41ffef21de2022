"""Simulated recordings: movies of the simulated dish as stores, with the truth beside what a camera sees."""

from livestain.simulating.movie import SimulatedMovie
from livestain.simulating.settings import MovieSettings
from livestain.simulating.writing import SimulationReport, movie_path, simulate_movies

__all__ = [
    "MovieSettings",
    "SimulatedMovie",
    "SimulationReport",
    "movie_path",
    "simulate_movies",
]
