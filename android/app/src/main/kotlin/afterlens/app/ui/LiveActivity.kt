package afterlens.app.ui

import afterlens.app.Bundles
import afterlens.app.Choice
import afterlens.app.R
import afterlens.app.camera.Camera2Source
import afterlens.app.camera.Lens
import afterlens.app.camera.lenses
import afterlens.app.service
import afterlens.core.Size
import afterlens.lens.live.CameraProblem
import afterlens.lens.live.LiveLens
import afterlens.lens.live.LiveState
import afterlens.lens.runtime.Processor
import android.app.Activity
import android.content.Intent
import android.hardware.camera2.CameraManager
import android.os.Bundle
import android.view.Surface
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.TextView
import kotlin.concurrent.thread

/** The camera through a network. From start to stop it owns a [LiveLens], and while it can be touched, a camera. */
class LiveActivity : Activity(), SurfaceHolder.Callback {
    private val permission = CameraPermission(this)
    private lateinit var preview: SurfaceView
    private lateinit var divider: DividerView
    private lateinit var amount: AmountBar
    private lateinit var status: TextView
    private lateinit var bundles: BundleMenu
    internal var lens: LiveLens? = null
        private set
    private var heat: Heat? = null
    private var cameras = emptyList<Lens>()
    private var camera = 0
    private var isTooHot = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.live)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        preview = requireViewById<SurfaceView>(R.id.preview).also { it.holder.addCallback(this) }
        divider = requireViewById<DividerView>(R.id.divider).also { it.onMoved = { place -> lens?.divider = place } }
        amount = AmountBar(this) { amount -> lens?.amount = amount }
        status = requireViewById(R.id.status)
        bundles = BundleMenu(requireViewById(R.id.bundles), Bundles(this), Choice::toString, ::load)
        requireViewById<Button>(R.id.lens).setOnClickListener { switchLens() }
        requireViewById<Button>(R.id.photo).setOnClickListener {
            val photo = Intent(this, PhotoActivity::class.java).putExtra(PhotoActivity.BUNDLE, bundles.chosen?.name)
            startActivityForResult(photo.putExtra(PhotoActivity.AMOUNT, amount.percent), PHOTO)
        }
        if (savedInstanceState == null) {
            if (!permission.isGiven) permission.ask()
        } else {
            camera = savedInstanceState.getInt(CAMERA)
            divider.place = savedInstanceState.getFloat(DIVIDER)
            bundles.wanted = savedInstanceState.getString(CHOICE)
        }
        status.setText(R.string.live_hint)
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putInt(CAMERA, camera)
        outState.putFloat(DIVIDER, divider.place)
        outState.putString(CHOICE, bundles.chosen?.toString())
    }

    override fun onStart() {
        super.onStart()
        lateinit var own: LiveLens
        own = LiveLens(codeCacheDir) { state -> runOnUiThread { if (lens === own) show(state) } }
        lens = own
        own.divider = divider.place
        own.amount = amount.amount
        // It stays where the activity was only covered; else surfaceChanged comes.
        val surface: Surface? = preview.holder.surface
        if (surface?.isValid == true) own.show(surface, Size(preview.width, preview.height))
        heat = Heat(this, ::heated)
        bundles.refresh()
    }

    override fun onResume() {
        super.onResume()
        startCamera()
    }

    override fun onPause() {
        lens?.stop() // other apps may want the camera
        super.onPause()
    }

    override fun onStop() {
        heat?.close()
        heat = null
        lens?.let { closing -> thread(name = "closing") { closing.close() } } // waits for the model
        lens = null
        super.onStop()
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode == PHOTO && data != null) amount.percent = data.getIntExtra(PhotoActivity.AMOUNT, amount.percent)
    }

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        if (permission.answered(requestCode)) startCamera()
    }

    override fun surfaceCreated(holder: SurfaceHolder) = Unit

    override fun surfaceChanged(holder: SurfaceHolder, format: Int, width: Int, height: Int) {
        lens?.show(holder.surface, Size(width, height))
    }

    override fun surfaceDestroyed(holder: SurfaceHolder) {
        lens?.hide()
    }

    /** Says what the user should know. */
    internal fun show(state: LiveState) {
        when (state) {
            is LiveState.WarmingUp -> status.text = resources.text(state)
            is LiveState.Running -> status.text = resources.text(state)
            is LiveState.Failed -> status.text = getString(R.string.model_failed, state.reason)
            is LiveState.NoCamera -> show(noCamera(state.problem))
        }
    }

    /** The network rests while the device is too hot; the camera's picture goes on. */
    internal fun heated(tooHot: Boolean) {
        if (tooHot == isTooHot) return
        isTooHot = tooHot
        load(bundles.chosen)
    }

    private fun load(choice: Choice?) {
        val to = lens ?: return
        if (choice is Choice.Usable && !isTooHot) return to.load(choice.bundle, choice.size, Processor.GPU)
        to.unload()
        status.text = when {
            choice is Choice.Broken -> getString(R.string.bundle_broken, choice.name, choice.reason)
            choice == null -> getString(R.string.bundle_none, Bundles(this).folder)
            else -> getString(R.string.too_hot)
        }
    }

    private fun startCamera() {
        show(if (permission.isGiven || permission.isAsked) null else permission.message())
        if (!permission.isGiven) return
        cameras = service<CameraManager>().lenses()
        requireViewById<View>(R.id.lens).visibility = if (cameras.size > 1) View.VISIBLE else View.GONE
        if (cameras.isEmpty()) return show(noCamera(CameraProblem.NONE))
        camera %= cameras.size
        lens?.start(Camera2Source(this, cameras[camera]))
    }

    private fun switchLens() {
        camera++
        startCamera()
    }

    private fun noCamera(problem: CameraProblem) = Message(getString(problem.words()), R.string.try_again, ::startCamera)

    private companion object {
        const val CAMERA = "camera"
        const val DIVIDER = "divider"
        const val CHOICE = "choice"
        const val PHOTO = 1
    }
}
