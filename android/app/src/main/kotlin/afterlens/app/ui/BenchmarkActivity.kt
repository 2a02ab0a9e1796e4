package afterlens.app.ui

import afterlens.app.R
import android.app.Activity
import android.os.Bundle

class BenchmarkActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setTitle(R.string.app_name)
    }
}
