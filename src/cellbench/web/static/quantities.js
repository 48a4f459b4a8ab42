/* SI values as people read them: mA beside mA/cm², MPa, °C; times and ages in words. */

export const QUANTITIES = {
  voltage_V: {label: "voltage", unit: "V", scale: 1, offset: 0, decimals: 4},
  current_A: {label: "current", unit: "mA", scale: 1e3, offset: 0, decimals: 3},
  stack_pressure_Pa: {label: "stack pressure", unit: "MPa", scale: 1e-6, offset: 0, decimals: 2},
  temperature_K: {label: "temperature", unit: "°C", scale: 1, offset: -273.15, decimals: 1},
};
const MINUS = "−";
const UNITS_S = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export const scaled = (name, value) => value == null ? null
  : value * QUANTITIES[name].scale + QUANTITIES[name].offset;

// As many digits as the quantity has, fewer for large values.
export function fixed(value, decimals) {
  if (value == null || !Number.isFinite(value)) return "–";
  const digits = Math.max(0, decimals - Math.max(0, Math.floor(Math.log10(Math.abs(value) || 1)) - 1));
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
}

// mA/cm2 as mA/cm², where typography allows it.
export const powers = (text) => text.replace(/\b(c?m|mm)([23])\b/g, (_, unit, power) => unit + (power === "2" ? "²" : "³"));

export const number = (name, value) => fixed(scaled(name, value), QUANTITIES[name].decimals);

// Current density in mA/cm²; nothing where the area is not known.
export const density = (current_A, area_m2) =>
  area_m2 && current_A != null ? `${fixed(current_A / area_m2 / 10, 3)} mA/cm²` : "";

// A limit in words: −2 V to 2 V, at most 12 MPa.
export function bounds(label, min, max) {
  const [name, {unit}] = Object.entries(QUANTITIES).find(([, one]) => one.label === label);
  const text = (value) => `${Number(scaled(name, value).toPrecision(4))} ${unit}`.replace("-", MINUS);
  if (min == null) return `at most ${text(max)}`;
  return max == null ? `at least ${text(min)}` : `${text(min)} to ${text(max)}`;
}

// A time in its two leading units: 11 h 12 min, 3 min 20 s.
export function span(seconds) {
  if (seconds < 10) return `${Number(Math.max(0, seconds).toPrecision(2))} s`;
  const whole = Math.round(seconds), first = UNITS_S.findIndex(([, size]) => whole >= size);
  const [name, size] = UNITS_S[first], [lesser, step] = UNITS_S[first + 1] || ["", 1];
  const rest = lesser ? Math.floor(whole % size / step) : 0;
  return `${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${lesser}` : ""}`;
}

// A time since the start: 11:12:05, with as many decimals as asked for.
export function clock(seconds, decimals = 0) {
  const sign = seconds < 0 ? MINUS : "", all = Math.abs(seconds);
  const whole = decimals ? Math.floor(all) : Math.round(all);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const rest = decimals ? (all - whole).toFixed(decimals).slice(1) : "";
  return sign + parts.map((part) => String(part).padStart(2, "0")).join(":") + rest;
}

// A moment of this computer's day: 06:40, Sat 06:40, or 2026-10-02 06:40 where it is far.
export function moment(utc) {
  if (!utc) return "–";
  const then = new Date(utc), days = Math.abs(then - Date.now()) / 86_400_000;
  const time = then.toLocaleTimeString("en-GB", {hour: "2-digit", minute: "2-digit"});
  if (then.toDateString() === new Date().toDateString()) return time;
  if (days < 6) return `${then.toLocaleDateString("en-GB", {weekday: "short"})} ${time}`;
  return `${then.toLocaleDateString("sv-SE")} ${time}`;
}
