package afterlens.lens.benchmark

import afterlens.core.BenchmarkDocument
import android.os.BatteryManager
import android.os.PowerManager

/** What a benchmark wants to know of the phone around it. The app answers with PowerManager and BatteryManager. */
interface DeviceState {
    val device: BenchmarkDocument.Device

    /** An emulator's times are never a phone's. */
    val isEmulator: Boolean

    /** [thermalName] of PowerManager.getCurrentThermalStatus(); null before Android 10, which does not tell. */
    fun thermalState(): String?

    /** BatteryManager.BATTERY_PROPERTY_CAPACITY; null where there is no battery. */
    fun batteryPercent(): Int?

    /** [powerName] of the battery's last broadcast; null where it is not told. */
    fun powerSource(): String?

    /** PowerManager.isPowerSaveMode. */
    fun isPowerSaving(): Boolean
}

/** A thermal status as it stands in a benchmark document. */
fun thermalName(status: Int): String = when (status) {
    PowerManager.THERMAL_STATUS_NONE -> "none"
    PowerManager.THERMAL_STATUS_LIGHT -> "light"
    PowerManager.THERMAL_STATUS_MODERATE -> "moderate"
    PowerManager.THERMAL_STATUS_SEVERE -> "severe"
    PowerManager.THERMAL_STATUS_CRITICAL -> "critical"
    PowerManager.THERMAL_STATUS_EMERGENCY -> "emergency"
    PowerManager.THERMAL_STATUS_SHUTDOWN -> "shutdown"
    else -> "status $status"
}

/** BatteryManager.EXTRA_PLUGGED as it stands in a benchmark document; null for what has no name there. */
fun powerName(plugged: Int): String? = when (plugged) {
    0 -> "battery"
    BatteryManager.BATTERY_PLUGGED_AC -> "ac"
    BatteryManager.BATTERY_PLUGGED_USB -> "usb"
    BatteryManager.BATTERY_PLUGGED_WIRELESS -> "wireless"
    BatteryManager.BATTERY_PLUGGED_DOCK -> "dock"
    else -> null
}
