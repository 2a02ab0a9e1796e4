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
 * @param onChosen told every choice, also the first one; null where there is none.
 */
class BundleMenu(
    private val spinner: Spinner,
    private val bundles: Bundles,
    private val label: (Choice) -> String,
    private val onChosen: (Choice?) -> Unit,
) : AdapterView.OnItemSelectedListener {
    private var choices = emptyList<Choice>()

    /** The label of what to choose as soon as it is there. */
    var wanted: String? = null

    val chosen get() = choices.getOrNull(spinner.selectedItemPosition)

    /** Reads the list again, since somebody may have pushed a bundle. */
    fun refresh() {
        val before = chosen?.let(label) ?: wanted
        choices = bundles.choices().distinctBy(label)
        val labels = choices.map(label)
        spinner.onItemSelectedListener = null
        spinner.adapter = ArrayAdapter(spinner.context, android.R.layout.simple_spinner_dropdown_item, labels)
        spinner.setSelection(labels.indexOf(before).coerceAtLeast(0), false)
        spinner.onItemSelectedListener = this
        if (choices.isEmpty()) onChosen(null) // the spinner only tells of items
    }

    override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = onChosen(chosen)

    override fun onNothingSelected(parent: AdapterView<*>?) = onChosen(null)
}
