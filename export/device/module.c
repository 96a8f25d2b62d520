/* The Python module tfqreg.export.container._tqw, for export/container/decoder/native.py. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "tqw.h"

/* Calls `progress(done, total)`; the decoder runs without the interpreter's lock. */
static int report(void *user, uint64_t done, uint64_t total) {
    const PyGILState_STATE lock = PyGILState_Ensure();
    PyObject *result =
        PyObject_CallFunction(user, "KK", (unsigned long long)done, (unsigned long long)total);
    const int failed = result == NULL;
    Py_XDECREF(result);
    PyGILState_Release(lock);
    return failed;
}

static PyObject *decode_open(tqw_file *file, const Py_buffer *base, PyObject *progress) {
    int error = TQW_OK;
    PyObject *output = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)file->output_bytes);
    if (!output) return NULL;
    char *out = PyBytes_AsString(output);
    PyThreadState *thread = PyEval_SaveThread();
    if (file->needs_base && base->obj) error = tqw_set_base(file, base->buf, (size_t)base->len);
    if (!error) {
        error = tqw_decode(file, out, (size_t)file->output_bytes,
                           progress == Py_None ? NULL : report, progress);
    }
    PyEval_RestoreThread(thread);
    if (!error) return output;
    Py_DECREF(output);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, tqw_strerror(error));
    return NULL;
}

static PyObject *decode(PyObject *self, PyObject *arguments) {
    Py_buffer container, base = {0};
    unsigned long long output_limit;
    unsigned int tensor_limit;
    PyObject *base_object, *progress, *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*KIOO", &container, &output_limit, &tensor_limit,
                          &base_object, &progress)) {
        return NULL;
    }
    const tqw_limits limits = {output_limit, tensor_limit};
    void *scratch = PyMem_Malloc(TQW_SCRATCH_BYTES);
    if (!scratch) {
        PyErr_NoMemory();
    } else if (base_object == Py_None ||
               PyObject_GetBuffer(base_object, &base, PyBUF_SIMPLE) == 0) {
        tqw_file file;
        const int error = tqw_open(&file, container.buf, (size_t)container.len, &limits, scratch,
                                   TQW_SCRATCH_BYTES);
        if (error) PyErr_SetString(PyExc_ValueError, tqw_strerror(error));
        else result = decode_open(&file, &base, progress);
    }
    PyMem_Free(scratch);
    if (base.obj) PyBuffer_Release(&base);
    PyBuffer_Release(&container);
    return result;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS,
     "decode(container, output_bytes_limit, tensors_limit, base, progress) -> bytes\n\n"
     "base and progress may be None. ValueError: the container is refused."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_tqw", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__tqw(void) { return PyModule_Create(&module); }
