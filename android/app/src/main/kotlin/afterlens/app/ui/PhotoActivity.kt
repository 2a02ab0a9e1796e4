package afterlens.app.ui

import afterlens.app.Bundles
import afterlens.app.Choice
import afterlens.app.Photos
import afterlens.app.R
import afterlens.app.blended
import afterlens.core.Fault
import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** Restores a photo that the user picks, and saves or shares the result. */
class PhotoActivity : Activity() {
    private val picker = PhotoPicker(this)
    private lateinit var work: ExecutorService
    private lateinit var pictures: CompareView
    private lateinit var amount: AmountBar
    private lateinit var status: TextView
    private lateinit var bundles: BundleMenu
    private var photo: Uri? = null
    private var saved: Saved? = null
    private var afterPermission: (() -> Unit)? = null

    @Volatile
    private var job = 0 // only the newest one counts

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.photo)
        work = Executors.newSingleThreadExecutor { Thread(it, "photos") }
        pictures = requireViewById(R.id.pictures)
        requireViewById<DividerView>(R.id.divider).onMoved = { pictures.divider = it }
        amount = AmountBar(this, ::showAmount)
        amount.percent = intent.getIntExtra(AMOUNT, amount.percent)
        status = requireViewById<TextView>(R.id.status).apply { setText(R.string.photo_hint) }
        requireViewById<Button>(R.id.open).setOnClickListener { if (!picker.open()) status.setText(R.string.photo_no_picker) }
        requireViewById<Button>(R.id.save).setOnClickListener { save {} }
        requireViewById<Button>(R.id.share).setOnClickListener { save(::share) }
        bundles = BundleMenu(requireViewById(R.id.bundles), Bundles(this), Choice::name) { restore() }
        bundles.wanted = savedInstanceState?.getString(BUNDLE) ?: intent.getStringExtra(BUNDLE)
        photo = savedInstanceState?.getString(PHOTO)?.let(Uri::parse)
        bundles.refresh()
        show(null)
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(PHOTO, photo?.toString())
        outState.putString(BUNDLE, bundles.chosen?.name)
    }

    override fun onDestroy() {
        job++
        work.shutdown()
        super.onDestroy()
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        photo = picker.picked(requestCode, resultCode, data) ?: return
        restore()
    }

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        val waiting = afterPermission ?: return
        afterPermission = null
        waiting() // if it was refused, MediaStore says so
    }

    private fun restore() {
        val from = photo ?: return
        val own = ++job
        saved = null
        show(null)
        requireViewById<ProgressBar>(R.id.working).visibility = View.VISIBLE
        status.setText(R.string.photo_working)
        val photoJob = PhotoJob(this, from, bundles.chosen)
        work.execute {
            if (own != job) return@execute
            val outcome = photoJob.run()
            runOnUiThread { if (own == job) show(outcome) }
        }
    }

    /** Shows the photo and what was made of it; null before there is anything. */
    internal fun show(outcome: PhotoJob.Outcome?) {
        requireViewById<ProgressBar>(R.id.working).visibility = View.GONE
        pictures.before = outcome?.before
        pictures.after = outcome?.after
        if (outcome != null) status.text = outcome.words
        for (button in listOf(R.id.save, R.id.share)) requireViewById<Button>(button).isEnabled = outcome?.after != null
    }

    /** The pictures follow, and so will the live preview. */
    private fun showAmount(amount: Float) {
        pictures.amount = amount
        setResult(RESULT_OK, Intent().putExtra(AMOUNT, this.amount.percent))
    }

    private fun save(then: (Uri) -> Unit) {
        val (before, after) = (pictures.before ?: return) to (pictures.after ?: return)
        val percent = amount.percent
        saved?.let { if (it.percent == percent) return then(it.picture) }
        val write = { write(percent, { before.blended(after, percent) }, then) }
        if (Photos.needsPermission(this)) {
            afterPermission = write
            return requestPermissions(arrayOf(Photos.PERMISSION), 0)
        }
        write()
    }

    private fun write(percent: Int, picture: () -> Bitmap, then: (Uri) -> Unit) {
        val own = job
        work.execute {
            val outcome = try {
                Result.success(Photos(contentResolver).save(picture(), "afterlens_${System.currentTimeMillis()}"))
            } catch (fault: Fault) {
                Result.failure(fault)
            }
            runOnUiThread {
                if (own != job) return@runOnUiThread
                outcome.onSuccess {
                    saved = Saved(it, percent)
                    status.setText(R.string.photo_saved)
                    then(it)
                }.onFailure { status.text = getString(R.string.photo_not_saved, it.message) }
            }
        }
    }

    private fun share(picture: Uri) {
        val send = Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, picture)
        startActivity(Intent.createChooser(send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION), null))
    }

    /** What was saved of the photo, and how much of the change it shows. */
    private class Saved(val picture: Uri, val percent: Int)

    companion object {
        /** Extra: the name of the bundle to begin with. */
        const val BUNDLE = "bundle"

        /** Extra, there and in the result: how much of the change is shown, in percent. */
        const val AMOUNT = "amount"
        private const val PHOTO = "photo"
    }
}
