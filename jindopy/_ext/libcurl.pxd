# libcurl (7.87 or newer), as far as it is used here.
cdef extern from "<curl/curl.h>" nogil:
    enum:
        CURL_ERROR_SIZE
        CURL_GLOBAL_DEFAULT
        CURL_HTTP_VERSION_1_1
        CURL_WRITEFUNC_ERROR
        CURLHEADER_SEPARATE
        CURLM_OK

    ctypedef long curl_off_t
    ctypedef struct CURL:
        pass
    ctypedef struct CURLM:
        pass
    ctypedef struct curl_waitfd:
        pass

    struct curl_slist:
        char* data
        curl_slist* next

    ctypedef enum CURLcode:
        CURLE_OK
        CURLE_COULDNT_RESOLVE_PROXY
        CURLE_COULDNT_RESOLVE_HOST
        CURLE_COULDNT_CONNECT
        CURLE_WEIRD_SERVER_REPLY
        CURLE_PARTIAL_FILE
        CURLE_OUT_OF_MEMORY
        CURLE_OPERATION_TIMEDOUT
        CURLE_SSL_CONNECT_ERROR
        CURLE_GOT_NOTHING
        CURLE_SEND_ERROR
        CURLE_RECV_ERROR
        CURLE_PEER_FAILED_VERIFICATION
        CURLE_SSL_CACERT_BADFILE
        CURLE_PROXY

    ctypedef enum CURLoption:
        CURLOPT_CAINFO
        CURLOPT_CAPATH
        CURLOPT_CONNECTTIMEOUT_MS
        CURLOPT_BUFFERSIZE
        CURLOPT_ERRORBUFFER
        CURLOPT_HEADERDATA
        CURLOPT_HEADERFUNCTION
        CURLOPT_HEADEROPT
        CURLOPT_HTTPHEADER
        CURLOPT_HTTP_VERSION
        CURLOPT_MAXCONNECTS
        CURLOPT_NOPROXY
        CURLOPT_NOSIGNAL
        CURLOPT_PATH_AS_IS
        CURLOPT_PRIVATE
        CURLOPT_PROTOCOLS_STR
        CURLOPT_PROXY
        CURLOPT_PROXYHEADER
        CURLOPT_QUICK_EXIT
        CURLOPT_SUPPRESS_CONNECT_HEADERS
        CURLOPT_URL
        CURLOPT_USERAGENT
        CURLOPT_WRITEDATA
        CURLOPT_WRITEFUNCTION

    ctypedef enum CURLINFO:
        CURLINFO_OS_ERRNO
        CURLINFO_PRETRANSFER_TIME_T

    ctypedef enum CURLMSG:
        CURLMSG_DONE

    union _Result "":
        CURLcode result

    struct CURLMsg:
        CURLMSG msg
        CURL* easy_handle
        _Result data

    CURLcode curl_global_init(long flags)
    const char* curl_easy_strerror(CURLcode code)
    CURL* curl_easy_init()
    void curl_easy_reset(CURL* easy)
    void curl_easy_cleanup(CURL* easy)
    CURLcode curl_easy_setopt(CURL* easy, CURLoption option, ...)
    CURLcode curl_easy_getinfo(CURL* easy, CURLINFO info, ...)
    CURLM* curl_multi_init()
    int curl_multi_cleanup(CURLM* multi)
    int curl_multi_add_handle(CURLM* multi, CURL* easy)
    int curl_multi_remove_handle(CURLM* multi, CURL* easy)
    int curl_multi_perform(CURLM* multi, int* running)
    int curl_multi_poll(CURLM* multi, curl_waitfd* extra, unsigned int count, int timeout_ms, int* ready)
    int curl_multi_wakeup(CURLM* multi)
    CURLMsg* curl_multi_info_read(CURLM* multi, int* left)
    curl_slist* curl_slist_append(curl_slist* slist, const char* text)
    void curl_slist_free_all(curl_slist* slist)
    const char* curl_version()
