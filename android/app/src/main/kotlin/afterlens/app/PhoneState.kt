package afterlens.app

import afterlens.core.BenchmarkDocument
import afterlens.lens.benchmark.DeviceState
import afterlens.lens.benchmark.powerName
import afterlens.lens.benchmark.thermalName
import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager

/** This device, as a benchmark document describes it. */
class PhoneState(private val context: Context) : DeviceState {
    private val power = context.service<PowerManager>()

    override val device: BenchmarkDocument.Device
        get() {
            val memory = ActivityManager.MemoryInfo().also(context.service<ActivityManager>()::getMemoryInfo)
            return BenchmarkDocument.Device(
                name = "${Build.MANUFACTURER} ${Build.MODEL}",
                os = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
                soc = soc(),
                cpu = Build.HARDWARE,
                cores = Runtime.getRuntime().availableProcessors(),
                memoryBytes = memory.totalMem,
            )
        }

    override val isEmulator get() = Build.HARDWARE in listOf("ranchu", "goldfish") // those of Google's SDK

    override fun thermalState(): String? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) thermalName(power.currentThermalStatus) else null

    override fun batteryPercent(): Int? =
        context.service<BatteryManager>().getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY).takeIf { it in 0..100 }

    override fun powerSource(): String? {
        val last: Intent? = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        return last?.getIntExtra(BatteryManager.EXTRA_PLUGGED, -1)?.let(::powerName)
    }

    override fun isPowerSaving() = power.isPowerSaveMode

    /** Phones tell it since Android 12. */
    private fun soc(): String? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else null
}
