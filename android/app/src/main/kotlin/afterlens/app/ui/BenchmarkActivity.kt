package afterlens.app.ui

import afterlens.app.PhoneState
import afterlens.app.R
import afterlens.app.png
import afterlens.lens.benchmark.BenchmarkFolder
import android.app.Activity
import android.os.Bundle
import android.view.WindowManager
import android.widget.TextView
import kotlin.concurrent.thread

/**
 * Times a bundle for `afterlens bench --device android`, which starts this by adb's shell and waits for the document.
 * The manifest lets nobody else start it. A rotation does not start it again. The screen is turned on and stays on.
 */
class BenchmarkActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setTurnScreenOn(true) // on a dark one nothing is drawn, and phones slow down
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        setContentView(R.layout.benchmark)
        requireViewById<TextView>(R.id.title).text = getString(R.string.benchmark_running, intent.getStringExtra("bundle"))
        val root = getExternalFilesDir(null)
        if (root == null) return tell(getString(R.string.benchmark_failed, getString(R.string.benchmark_no_storage)))
        if (savedInstanceState == null) thread(name = "benchmark") { measure(BenchmarkFolder(root, codeCacheDir)) }
    }

    private fun measure(folder: BenchmarkFolder) {
        val state = PhoneState(applicationContext)
        val wrong = folder.run(intent::getStringExtra, state, png) { line -> runOnUiThread { tell(line) } }
        val words = if (wrong == null) getString(R.string.benchmark_done) else getString(R.string.benchmark_failed, wrong)
        runOnUiThread { tell(words) }
    }

    private fun tell(words: String) {
        requireViewById<TextView>(R.id.status).text = words
    }
}
