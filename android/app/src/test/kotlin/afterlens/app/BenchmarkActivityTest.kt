package afterlens.app

import afterlens.app.ui.BenchmarkActivity
import android.content.Intent
import android.view.WindowManager
import android.widget.TextView
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner

@RunWith(RobolectricTestRunner::class)
class BenchmarkActivityTest {
    private val results = File(Device.app.getExternalFilesDir(null), "benchmarks")

    @Test
    fun `what goes wrong stands on the screen and in a file, in one line`() {
        val extras = mapOf(
            "bundle" to "none", "document" to "run", "size" to "256x256", "accelerator" to "cpu",
            "threads" to "2", "warmup" to "1", "runs" to "2", "minutes" to "0",
        )
        val intent = Intent(Device.app, BenchmarkActivity::class.java)
        extras.forEach { (key, value) -> intent.putExtra(key, value) }
        val activity = Robolectric.buildActivity(BenchmarkActivity::class.java, intent).setup().get()
        val error = File(results, "run.error.txt")
        Device.waitFor("the benchmark to end") { error.exists() && status(activity) != "" }
        assertEquals("model.json: is missing", error.readText())
        assertEquals("Not measured: model.json: is missing", status(activity))
        assertTrue(activity.window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON != 0)
    }

    @Test
    fun `this device is described`() {
        val state = PhoneState(Device.app)
        assertTrue(state.device.os, state.device.os.startsWith("Android 15 (API 35)"))
        assertTrue(state.device.name.isNotBlank() && state.device.cores > 0)
        assertEquals("none", state.thermalState())
    }

    private fun status(activity: BenchmarkActivity) = activity.requireViewById<TextView>(R.id.status).text.toString()
}
