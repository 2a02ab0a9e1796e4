package afterlens.app.ui

import afterlens.app.service
import android.content.Context
import android.os.Build
import android.os.PowerManager

/** Tells when the device becomes too hot, and when it has cooled down. Android 9 does not know. */
class Heat(context: Context, private val changed: (tooHot: Boolean) -> Unit) : AutoCloseable {
    private val power = context.service<PowerManager>()
    private var listener: Any? = null // PowerManager.OnThermalStatusChangedListener is a class of Android 10

    init {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            val told = PowerManager.OnThermalStatusChangedListener { changed(it >= PowerManager.THERMAL_STATUS_SEVERE) }
            power.addThermalStatusListener(told) // called on the main thread
            listener = told
        }
    }

    override fun close() {
        val told = listener ?: return
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            power.removeThermalStatusListener(told as PowerManager.OnThermalStatusChangedListener)
        }
        listener = null
    }
}
