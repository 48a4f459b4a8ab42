"""The columns of the report's tables: which of a result's names are shown, under which heading."""

from __future__ import annotations

from typing import TypeAlias

Column: TypeAlias = tuple[str, str]
_CCD: tuple[Column, ...] = (
    ("current_density_mA_cm2", "j / mA/cm²"),
    ("verdict", "verdict"),
    ("reason", "reason"),
    ("voltage_positive_V", "V+ / V"),
    ("voltage_negative_V", "V\N{MINUS SIGN} / V"),
    ("ASR_apparent_ohm_cm2", "apparent ASR / Ω cm²"),
    ("apparent_over_electrolyte", "of the electrolyte"),
    ("rms_percent", "rms / %"),
    ("largest_step_percent", "largest step / %"),
    ("asymmetry_percent", "asymmetry / %"),
    ("end_ratio", "end / start"),
    ("areal_capacity_mAh_cm2", "mAh/cm²"),
)
_CONDUCTIVITY: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("time_h", "h"),
    ("stack_pressure_MPa", "MPa"),
    ("highest_pressure_MPa", "pressed with / MPa"),
    ("temperature_degC", "°C"),
    ("conductivity_mS_cm", "conductivity / mS/cm"),
    ("R_total_ohm", "R total / Ω"),
    ("R_bulk_ohm", "R bulk / Ω"),
    ("R_grain_boundary_ohm", "R grain boundary / Ω"),
    ("fit_residual_percent", "fit residual / %"),
    ("kramers_kronig_residual_percent", "Kramers-Kronig / %"),
    ("why_not_identified", "not identified"),
)
_PRESSINGS: tuple[Column, ...] = (
    ("pressed_MPa", "pressed with / MPa"),
    ("measured_at_MPa", "measured at / MPa"),
    ("R_total_ohm_cm2", "R total / Ω cm²"),
    ("boundary_over_bulk", "boundaries over bulk"),
    ("boundary_over_bulk_uncertainty", "± (68 %)"),
)
_INTERFACE: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("stack_pressure_MPa", "MPa"),
    ("temperature_degC", "°C"),
    ("R_electrolyte_ohm", "R electrolyte / Ω"),
    ("R_interface_ohm", "R interface / Ω"),
    ("ASR_interface_ohm_cm2", "ASR interface / Ω cm²"),
    ("R_total_ohm", "R total / Ω"),
    ("kramers_kronig_residual_percent", "Kramers-Kronig / %"),
    ("not_identified", "not identified"),
)
_CAPACITY: tuple[Column, ...] = (
    ("cycle", "cycle"),
    ("rate_C", "C-rate"),
    ("current_density_mA_cm2", "mA/cm²"),
    ("charge_mAh_g", "charge / mAh/g"),
    ("discharge_mAh_g", "discharge / mAh/g"),
    ("charge_mAh_cm2", "charge / mAh/cm²"),
    ("discharge_mAh_cm2", "discharge / mAh/cm²"),
    ("coulombic_efficiency_percent", "CE / %"),
    ("energy_efficiency_percent", "energy efficiency / %"),
    ("charge_mean_V", "mean charge / V"),
    ("discharge_mean_V", "mean discharge / V"),
    ("ended_charge", "charge ended"),
)
_EFFICIENCY: tuple[Column, ...] = (
    ("cycle", "cycle"),
    ("passed_mAh_cm2", "passed / mAh/cm²"),
    ("returned_mAh_cm2", "returned / mAh/cm²"),
    ("coulombic_efficiency_percent", "CE / %"),
)
_RETENTION: tuple[Column, ...] = (
    ("cycle", "cycle"),
    ("discharge_mAh_g", "discharge / mAh/g"),
    ("discharge_mAh_cm2", "discharge / mAh/cm²"),
    ("retention_percent", "retention / %"),
)
_CONSISTENCY: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("time_s", "s"),
    ("rms_residual_percent", "rms residual / %"),
    ("worst_residual_percent", "worst residual / %"),
    ("elements", "RC elements"),
    ("mu", "mu"),
    ("consistent", "consistent"),
)
_PEAKS: tuple[Column, ...] = (
    ("cycle", "cycle"),
    ("direction", "direction"),
    ("potential_V", "potential / V"),
    ("height", "height"),
    ("width_mV", "width / mV"),
)
_PULSES: tuple[Column, ...] = (
    ("step", "pulse"),
    ("direction", "direction"),
    ("potential_V", "potential before / V"),
    ("current_density_mA_cm2", "mA/cm²"),
    ("R_1s_ohm", "R(1 s) / Ω"),
    ("R_10s_ohm", "R(10 s) / Ω"),
    ("R_30s_ohm", "R(30 s) / Ω"),
    ("R_end_ohm", "R at the end / Ω"),
    ("R_end_ohm_cm2", "at the end / Ω cm²"),
    ("pulse_s", "pulse / s"),
)
_RATES: tuple[Column, ...] = (
    ("rate_C", "C-rate"),
    ("current_density_mA_cm2", "mA/cm²"),
    ("first_cycle", "from cycle"),
    ("last_cycle", "to cycle"),
    ("discharge_mAh_g", "discharge / mAh/g"),
    ("discharge_mAh_cm2", "discharge / mAh/cm²"),
    ("coulombic_efficiency_percent", "CE / %"),
    ("mean_V", "mean discharge / V"),
    ("return_percent", "return / %"),
)
_ARRHENIUS: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("temperature_degC", "°C"),
    ("inverse_temperature_1000_per_K", "1000 / T / 1/K"),
    ("conductivity_mS_cm", "conductivity / mS/cm"),
    ("sigma_T_S_K_cm", "sigma T / S K/cm"),
    ("R_total_ohm", "R total / Ω"),
    ("kramers_kronig_residual_percent", "Kramers-Kronig / %"),
)
_ELECTRONIC: tuple[Column, ...] = (
    ("step", "step"),
    ("voltage_V", "V"),
    ("current_nA", "current / nA"),
    ("noise_nA", "noise / nA"),
    ("duration_s", "s"),
    ("log_slope", "dlnI/dlnt"),
    ("drift_percent", "drift in 10 min / %"),
    ("steady", "steady"),
)
_GROWTH: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("time_h", "h"),
    ("state", "state"),
    ("potential_V", "potential / V"),
    ("reached_V", "reached / V"),
    ("R_electrolyte_ohm", "R electrolyte / Ω"),
    ("R_interface_ohm", "R interface / Ω"),
    ("ASR_interface_ohm_cm2", "ASR / Ω cm²"),
    ("R_slowest_ohm", "slowest arc / Ω"),
    ("R_slowest_low_ohm", "at least / Ω"),
    ("R_slowest_high_ohm", "at most / Ω"),
    ("slowest_top_Hz", "its top / Hz"),
    ("extrapolated", "below the band"),
    ("fit_residual_percent", "fit residual / %"),
)
_TIMES: tuple[Column, ...] = (
    ("step", "spectrum"),
    ("R_ohm", "R / Ω"),
    ("tau_s", "relaxation time / s"),
    ("frequency_Hz", "Hz"),
    ("C_F", "F"),
    ("in_band", "in the band"),
)
_TRACKS: tuple[Column, ...] = (
    ("direction", "direction"),
    ("first_cycle", "from cycle"),
    ("last_cycle", "to cycle"),
    ("first_potential_V", "at first / V"),
    ("last_potential_V", "at last / V"),
    ("shift_mV", "shift / mV"),
    ("height_percent", "height at last / %"),
)
_GITT: tuple[Column, ...] = (
    ("step", "pulse"),
    ("direction", "direction"),
    ("potential_V", "potential / V"),
    ("D_cm2_s", "D / cm²/s"),
    ("D_sphere_cm2_s", "D of the sphere / cm²/s"),
    ("pulse_s", "s"),
    ("steady_change_mV", "relaxed change / mV"),
    ("transient_change_mV", "change in the pulse / mV"),
    ("ohmic_ohm", "ohmic / Ω"),
    ("tau_D_over_R2", "tau D / R²"),
    ("too_long", "too long"),
    ("relaxed", "relaxed"),
)
_WAVES: tuple[Column, ...] = (
    ("scan", "scan"),
    ("direction", "direction"),
    ("onset_V", "onset by tangent / V"),
    ("peak_V", "peak / V"),
    ("peak_mA_cm2", "peak / mA/cm²"),
    ("at_edge", "ends the scan"),
)
_SCANS: tuple[Column, ...] = (
    ("scan", "scan"),
    ("direction", "direction"),
    ("from_V", "from / V"),
    ("to_V", "to / V"),
    ("cathodic_mAh_cm2", "cathodic / mAh/cm²"),
    ("anodic_mAh_cm2", "anodic / mAh/cm²"),
)
_CYCLING: tuple[Column, ...] = (
    ("cycle", "cycle"),
    ("time_h", "h"),
    ("polarisation_V", "polarisation / V"),
)
_REPLICATES: tuple[Column, ...] = (
    ("quantity", "quantity"),
    ("n", "n"),
    ("mean", "mean"),
    ("standard_deviation", "standard deviation"),
    ("interval", "± (95 %)"),
    ("relative_percent", "relative / %"),
    ("lowest", "lowest"),
    ("highest", "highest"),
)
#: Title, name of the rows in the result, columns.
Spec: TypeAlias = tuple[str, str, tuple[Column, ...]]
KNOWN: dict[str, tuple[Spec, ...]] = {
    "arrhenius": (("By spectrum", "spectra", _ARRHENIUS),),
    "capacity": (("By cycle", "rows", _CAPACITY),),
    "ccd": (("Levels", "steps", _CCD),),
    "conductivity": (("By spectrum", "spectra", _CONDUCTIVITY),),
    "coulombic_efficiency": (("By cycle", "rows", _EFFICIENCY),),
    "cyclic_voltammetry": (("Waves", "waves", _WAVES), ("Scans", "scans", _SCANS)),
    "distribution_of_relaxation_times": (("Processes", "processes", _TIMES),),
    "dq_dv": (
        ("Peaks, followed over the cycles", "tracks", _TRACKS),
        ("Peaks of every half-cycle", "peaks", _PEAKS),
    ),
    "electronic_conductivity": (("By step", "steps", _ELECTRONIC),),
    "fabrication_pressure": (("By pressing", "pressings", _PRESSINGS),),
    "gitt": (("By pulse", "rows", _GITT),),
    "interface_resistance": (("By spectrum", "spectra", _INTERFACE),),
    "kramers_kronig": (("By spectrum", "spectra", _CONSISTENCY),),
    "pulse_resistance": (("By pulse", "rows", _PULSES),),
    "rate_table": (("By rate", "rates", _RATES),),
    "replicates": (("Over the cells", "quantities", _REPLICATES),),
    "resistance_growth": (("By spectrum", "spectra", _GROWTH),),
    "retention": (("By cycle", "rows", _RETENTION),),
    "symmetric_cycling": (("By cycle", "rows", _CYCLING),),
}
