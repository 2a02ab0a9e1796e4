package afterlens.app.ui

import afterlens.app.Bundles
import afterlens.app.Choice
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Spinner

/**
 * The list of bundles.
 *
 * @param label what a choice is called; of those that are called the same, only the first is listed.
 * @param onChosen told every choice, and by [refresh] what is chosen then; null where there is none.
 */
class BundleMenu(
    private val spinner: Spinner,
    private val bundles: Bundles,
    private val label: (Choice) -> String,
    private val onChosen: (Choice?) -> Unit,
) : AdapterView.OnItemSelectedListener {
    private var choices = emptyList<Choice>()
    private var told: String? = null

    /** The label of what to choose as soon as it is there. */
    var wanted: String? = null

    val chosen get() = choices.getOrNull(spinner.selectedItemPosition)

    /** Reads the list again, since somebody may have pushed a bundle. */
    fun refresh() {
        val before = chosen?.let(label) ?: wanted
        choices = bundles.choices().distinctBy(label)
        val labels = choices.map(label)
        spinner.adapter = ArrayAdapter(spinner.context, android.R.layout.simple_spinner_dropdown_item, labels)
        spinner.setSelection(labels.indexOf(before).coerceAtLeast(0), false)
        spinner.onItemSelectedListener = this
        tell()
    }

    override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) {
        if (chosen?.let(label) != told) tell() // the spinner also tells what was chosen before
    }

    override fun onNothingSelected(parent: AdapterView<*>?) = Unit

    private fun tell() {
        told = chosen?.let(label)
        onChosen(chosen)
    }
}
